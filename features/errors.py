"""The exceptions of the project.

CtrDistillError
├── ConfigError     a setting or a command line is wrong
│   └── RefusedError    a teacher is too bad for the student that is asked for
├── DataError       the input is wrong as a whole (a single bad row is not an error: it goes to the rejects)
├── ArtifactError   something in a run directory is missing, damaged or belongs to something else
└── TrainingError   a training cannot go on

Every message reads ``<what> must <rule>. Received: <value> (<where>).``; the command line prints it as one
line and exits with 2.
"""


class CtrDistillError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(CtrDistillError):
    """A setting or a command line is wrong."""


class RefusedError(ConfigError):
    """A teacher is too bad for the student that is asked for; other students can still be made."""


class DataError(CtrDistillError):
    """The input is wrong as a whole."""


class ArtifactError(CtrDistillError):
    """A file of a run directory is missing, damaged or belongs to something else."""


class TrainingError(CtrDistillError):
    """A training cannot go on: its loss has exploded, or a worker was lost."""
