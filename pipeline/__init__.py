"""What runs: one module a stage, in the order the data flows, plus the command line and the run directory."""

import logging

# Beam says this on the root logger whenever it is imported without Google's client libraries, which few need.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))
