"""The doctor's reminder: whether an order repeats an exam that can be opened, and what became of saying so.

`policy` reads the rules, `orders` reads a draft order, `decide` decides: pure. `persons`, `references` and
`retrievable` look up, in the restricted zone; `desk` puts them together for one question. What is shown, answered and
opened is kept by `radlake.lake.reminders`; HTTP and words are in `radlake.web.cds`.
"""
