"""Airflow adapter: the only package that imports airflow.

`assets` and `retry` are what a DAG file needs while it is parsed; `tasks` is what its tasks call when they run.
No logic of the pipeline lives here.
"""
