"""Every failure of the feature store by name. Each message is one line: the value, the rule, the remedy."""

import pathlib


class CacheError(Exception):
    """Base of every error the feature store raises."""


class StoreNotFoundError(CacheError):
    """There is no feature store at the path."""


class IncompleteStoreError(CacheError):
    """The store is still open: some of its shards are not written yet."""


class SchemaError(CacheError):
    """A plan, a manifest or rows that break a rule of the format."""


class FormatVersionError(CacheError):
    """A store of a format version that this release does not read."""


class IdentityError(CacheError):
    """A store made from other inputs than the ones asked for now."""


class LockedStoreError(CacheError):
    """Another process is writing the store."""


class CorruptStoreError(CacheError):
    """A file of the store is missing, cut short, or not what the manifest says."""


class CorruptFileError(CorruptStoreError):
    """A file of a store that is not what it should be; `reason` is what is wrong with it, in words."""

    remedy = "fetch or make it again"

    def __init__(self, path: pathlib.Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.remedy}."


class CorruptShardError(CorruptFileError):
    """A shard file that is not what the plan says."""

    remedy = "delete this file and rerun the command that wrote the store"


class CorruptPackedError(CorruptFileError):
    """A packed store that is not what its manifest says."""

    remedy = "fetch the file again, or pack the store anew"


class UnreadableFileError(CacheError):
    """A file that this process may not or cannot read now, of which nothing else is known: it may well be sound."""


class ForeignFolderError(CacheError):
    """The path holds something that no feature store wrote, so it is left alone."""


class FeatureValueError(CacheError):
    """A feature that is not finite, or too large for the stored dtype."""


class StoreWriteError(CacheError):
    """The system refused a write: disk full, read-only, no permission. `kept` is what a rerun of the writer finds of it, in words."""

    def __init__(self, told: str, kept: str = "") -> None:
        super().__init__(told, kept)
        self.told, self.kept = told, kept

    def __str__(self) -> str:
        return f"{self.told}{self.kept}{'' if self.told.endswith('.') else '.'}"

    def without_kept(self) -> str:
        """The same for a command that begins anew."""
        return str(StoreWriteError(self.told))
