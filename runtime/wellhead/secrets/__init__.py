"""Secrets: references in, values lent to one run, and nothing left when it ends.

base      what a reference is, and the contract of a store that lends
vault     Vault and OpenBao; the only importer of hvac
local     env:// and file:// for a developer's own machine
policies  what an administrator must create, as text
"""
