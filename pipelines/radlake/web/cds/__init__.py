"""The reminder over HTTP: an HL7 CDS Hooks service (order-select, order-sign) of the restricted zone.

`issuers` says who may ask, `hook_request` reads what is asked, `cards` writes the answer, `app` has the routes,
`server` listens. A process of its own: callers send identifiers, which the pages of the lake never see (ADR 38).
"""
