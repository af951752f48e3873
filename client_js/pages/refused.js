/** The page in the place of one that is for admins only: says who the visitor is to this server. */

import { whoAmI } from "../problems.js";
import { byId } from "./parts.js";

const who = await whoAmI();
if (who !== null) {
  byId("who-identity").textContent = who.identity;
  byId("who").hidden = false;
}
