"""jeton's router: from an OpenAI-shaped request to the cheapest replica that will answer it well and in time."""

import sys

from router.compiled import finders

sys.meta_path[:0] = finders()
