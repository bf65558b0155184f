"""The registry: what Wellhead decided and what it committed, on SQLite or PostgreSQL.

    database   opens, migrates, gives transactions; the only place that knows which database it is
    tables     every table, written once
    others     one module per table: functions that take a `Transaction` first and return frozen values

The modules do not import one another; a step that needs two of them calls both inside one transaction, and the order
stands in the step. SQLAlchemy and Alembic are imported nowhere else, and `wellhead --help` must not import
this package.
"""
