"""``homeport demo``: real well logs, two devices, one node, PostgreSQL, and no network for a while.

Read it as an example, in this order: ``models`` (what the documents are), ``tasks`` (what a device
does with the library), ``device`` (the process around it), ``story`` (the acts), ``verify``
(everybody holds the same). ``data`` and ``logs`` fetch and read the files; ``stage`` starts and
kills processes; ``screen`` and ``report`` draw.
"""
