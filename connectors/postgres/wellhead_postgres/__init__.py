"""Reads tables and views of a PostgreSQL database, each value exactly or as a dead letter.

columns    the type table: how each PostgreSQL type is selected, guarded and held in Arrow
tables     what the catalog says about tables: columns, keys, sizes
query      SELECT statements as text; knows no connection
session    connections, TLS, and the server's errors told as the SDK's
connector  the five verbs
"""
