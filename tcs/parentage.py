"""Which teacher, with which preprocessing, the features of a store are of."""

from cache import Store, digest_of_bytes, digest_of_json

OWN_FIELDS = ("views", "resized", "projections")  # of a store's identity: they leave the teacher what it is


def teacher_identity_of(store: Store, readout: str | None = None) -> str:
    """Digest of what a store records of its teacher and preprocessing: equal for train and test stores of one teacher.

    Views and kept images do not count, and of the projections only that of `readout`, with its arrays: a PCA may differ
    between stores.
    """
    plan = store.manifest.plan
    identity = {name: value for name, value in plan.identity.items() if name not in OWN_FIELDS} | {"views": 1}
    projection = plan.identity.get("projections", {}).get(readout)
    if projection is not None:
        prefix = f"projection/{readout}/"
        arrays = {name: digest_of_bytes(item.data) for name, item in plan.constants.items() if name.startswith(prefix)}
        identity |= {"projection": projection, "constants": arrays}
    return digest_of_json(identity)
