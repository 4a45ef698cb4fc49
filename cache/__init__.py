"""The feature store: one folder of HDF5 shards with a manifest, written once, read as memory maps. See FORMAT.md."""

from cache import errors as errors
from cache.constants import Constant as Constant
from cache.features import Features as Features
from cache.files import atomic_write_bytes as atomic_write_bytes
from cache.fingerprint import content_hash as content_hash
from cache.fingerprint import digest_of_bytes as digest_of_bytes
from cache.fingerprint import digest_of_json as digest_of_json
from cache.manifest import Manifest as Manifest
from cache.manifest import Quarantined as Quarantined
from cache.part import PartWriter as PartWriter
from cache.part import WrittenShard as WrittenShard
from cache.reader import Store as Store
from cache.reader import open as open
from cache.schema import FORMAT_VERSION as FORMAT_VERSION
from cache.schema import Plan as Plan
from cache.schema import Readout as Readout
from cache.schema import Views as Views
from cache.shard import ShardRows as ShardRows
from cache.verification import Problem as Problem
from cache.verification import Verification as Verification
from cache.verification import verify as verify
from cache.writer import StoreWriter as StoreWriter
from cache.writer import set_gate as set_gate
