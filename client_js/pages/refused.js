/** The page in the place of one that is for admins only: says who the visitor is to this server. */

import { explainRefusal, whoAmI } from "../problems.js";
import { byId } from "./parts.js";

const { who, refusal } = await whoAmI();
if (refusal !== null) {
  const { title, advice } = explainRefusal(refusal);
  byId("title").textContent = title;
  byId("advice").textContent = advice;
} else if (who !== null) {
  byId("who-identity").textContent = who.identity;
  byId("who").hidden = false;
}
