"""``python -m homeport.testing.simulation``."""

from homeport.testing.simulation import main

raise SystemExit(main())
