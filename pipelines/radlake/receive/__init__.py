"""Receive: hospitals push, and what they push is ingested as what we harvest is.

senders   who may send, for which hospital        scp, mpps, commitment   over DIMSE
spool     received files until they are ingested   stow, http              over DICOMweb
closing   when a study is closed (pure)            closer                  closes and ingests
service   all of it, started and stopped
"""
