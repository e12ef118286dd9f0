"""Results of research on a release come home: checked, stored, entered, listed, handed out again.

`provenance` is the file beside an object, `referred` knows what of the release it may refer to, `persons`
what the vault knows of those whom it must not name, `check` says whether
object, provenance and release agree, `take` stores and enters, `taken` is what was entered.
See docs/adr/0046-results-come-home-under-the-names-of-their-release.md.
"""
