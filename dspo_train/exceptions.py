"""Problems that the user can fix. The command line prints them without a traceback."""


class DspoError(Exception):
    """Its message says what was wrong, where, what was found and what to do."""


class ConfigError(DspoError, ValueError):
    """A setting that is unknown, out of range or contradicts another."""


class DatasetError(DspoError, ValueError):
    """A pair folder that cannot be read or holds nothing to learn from."""


class ModelError(DspoError, ValueError):
    """A base model that is missing, incomplete or of an unsupported kind."""


class LoraFileError(DspoError, ValueError):
    """A LoRA file that cannot be read, written or applied to this base."""


class RunError(DspoError, RuntimeError):
    """A run folder that cannot be started, resumed or written to."""
