"""A look at a run while it is on: a page in the browser, served by a process of its own.

The run keeps the newest result and what was found lately, and hands it over when the server asks for it, which it does
while somebody looks. Nothing that server or pages do can make the loop wait.
"""
