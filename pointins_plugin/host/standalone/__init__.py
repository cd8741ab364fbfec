"""A small runtime that speaks Pointcept's dialect where there is no Pointcept.

Registry names, config keys, batch keys, folder layouts and state-dict names are those
of Pointcept d74c646.
"""
