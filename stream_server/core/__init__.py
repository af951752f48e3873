"""The rules of the product as plain objects: no IO, no clock, no threads, no models.

Whatever happens is told to a core object by a method call with the time as an argument; what should
be done about it is the list of actions that the call returns.
"""
