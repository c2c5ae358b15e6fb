"""Real processes under real faults: ``python -m tests.faults``, or ``make faults``."""
