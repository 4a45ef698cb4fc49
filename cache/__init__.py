"""The feature store: a folder of HDF5 shards with a manifest, written once, read as memory maps. FORMAT.md says all of its bytes.

A row has a key, a label or none, an array for each readout of the teacher, the image and its hash. `create` writes a store from
arrays and `StoreWriter` shard by shard; `open` reads one, and `join` shows several of the same images as one; `verify` checks every
byte; `pack`, `merge`, `subset` and `export` make other files of it. It needs numpy and h5py, and knows no teacher. What a user can
cause is an `errors.CacheError` of one line.

>>> import cache
>>> import numpy as np
>>> path = cache.create("my.store", {"avg": np.eye(3, dtype=np.float32)}, keys=["a", "b", "c"], labels=["x", "y", "x"])
>>> store = cache.open(path)
>>> len(store), store.classes, store.features().gather(np.array([2]))
(3, ('x', 'y'), array([[0., 0., 1.]], dtype=float32))
>>> cache.verify(path).is_sound
True
"""

from cache import errors as errors
from cache.constants import Constant as Constant
from cache.creation import create as create
from cache.derivation import DerivedFrom as DerivedFrom
from cache.derivation import carried_rows as carried_rows
from cache.derivation import joined_rows as joined_rows
from cache.draft import Draft as Draft
from cache.exporting import about as about
from cache.exporting import export as export
from cache.features import Features as Features
from cache.files import FolderLock as FolderLock
from cache.files import StreamedFile as StreamedFile
from cache.files import atomic_write_bytes as atomic_write_bytes
from cache.files import locked_file as locked_file
from cache.files import remove_partials as remove_partials
from cache.files import write_error as write_error
from cache.fingerprint import content_hash as content_hash
from cache.fingerprint import digest_of_bytes as digest_of_bytes
from cache.fingerprint import digest_of_json as digest_of_json
from cache.inspection import standing_quarantine as standing_quarantine
from cache.joining import join as join
from cache.labels import LabelChanges as LabelChanges
from cache.labels import LaterLabels as LaterLabels
from cache.manifest import Manifest as Manifest
from cache.manifest import Quarantined as Quarantined
from cache.manifest import read_manifest as read_manifest
from cache.manifest import stored_manifest as stored_manifest
from cache.manifest import stored_plan as stored_plan
from cache.merging import merge as merge
from cache.packing import pack as pack
from cache.packing import unpack as unpack
from cache.part import PartWriter as PartWriter
from cache.part import WrittenShard as WrittenShard
from cache.partials import is_partial as is_partial
from cache.problems import Problem as Problem
from cache.problems import Verification as Verification
from cache.reader import JOINED_BY as JOINED_BY
from cache.reader import Row as Row
from cache.reader import Store as Store
from cache.reader import open as open
from cache.relabelling import set_labels as set_labels
from cache.relabelling import stored_labels as stored_labels
from cache.repair import discard_shards as discard_shards
from cache.repair import reopen_store as reopen_store
from cache.repair import require_same_rows as require_same_rows
from cache.replacement import PARENT as PARENT
from cache.replacement import Replacement as Replacement
from cache.schema import FORMAT_VERSION as FORMAT_VERSION
from cache.schema import Plan as Plan
from cache.schema import Readout as Readout
from cache.schema import Views as Views
from cache.shard import ShardRows as ShardRows
from cache.side_by_side import JoinedFeatures as JoinedFeatures
from cache.subsetting import subset as subset
from cache.verification import verify as verify
from cache.writer import StoreWriter as StoreWriter
from cache.writer import WriteBehind as WriteBehind
from cache.writer import set_gate as set_gate

__all__ = [
    "FORMAT_VERSION",
    "JOINED_BY",
    "PARENT",
    "Constant",
    "DerivedFrom",
    "Draft",
    "Features",
    "FolderLock",
    "JoinedFeatures",
    "LabelChanges",
    "LaterLabels",
    "Manifest",
    "PartWriter",
    "Plan",
    "Problem",
    "Quarantined",
    "Readout",
    "Replacement",
    "Row",
    "ShardRows",
    "Store",
    "StoreWriter",
    "StreamedFile",
    "Verification",
    "Views",
    "WriteBehind",
    "WrittenShard",
    "about",
    "atomic_write_bytes",
    "carried_rows",
    "content_hash",
    "create",
    "digest_of_bytes",
    "digest_of_json",
    "discard_shards",
    "errors",
    "export",
    "is_partial",
    "join",
    "joined_rows",
    "locked_file",
    "merge",
    "open",
    "pack",
    "read_manifest",
    "remove_partials",
    "reopen_store",
    "require_same_rows",
    "set_gate",
    "set_labels",
    "standing_quarantine",
    "stored_labels",
    "stored_manifest",
    "stored_plan",
    "subset",
    "unpack",
    "verify",
    "write_error",
]
