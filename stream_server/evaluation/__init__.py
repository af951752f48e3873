"""How good and how late captions are: references, counts, groups, tables, charts. Touches no file."""
