"""What the API does to objects: create, replace, patch, delete, as the real one does."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from .answers import Failure, conflict, exists, not_found
from .kinds import Kind, Object
from .store import Entry, Store

_TRIES = 5


def now_text() -> str:
    """A time as metav1.Time is written."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


class Objects:
    """The objects of a store, each with a version."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def show(self, entry: Entry) -> Object:
        """The object as a client sees it."""
        assert entry.object is not None
        found: Object = dict(entry.object)
        found["metadata"] = {**found["metadata"], "resourceVersion": str(entry.revision)}
        return found

    def read(self, kind: Kind, namespace: str, name: str) -> Entry:
        """One object. Raises Failure 404."""
        entry = self.store.get(kind.prefix(namespace) + name)
        if entry is None:
            raise not_found(kind, name)
        return entry

    def create(self, kind: Kind, namespace: str, given: Object) -> Object:
        """A new object. Raises Failure 409, and 422 for one that names what the server makes."""
        meta = dict(given.get("metadata") or {})
        name = meta.get("name") or f"{meta.get('generateName', '')}{uuid.uuid4().hex[:5]}"
        if meta.get("resourceVersion"):
            told = "resourceVersion should not be set on objects to be created"
            raise Failure(400, "BadRequest", told)
        made = {"apiVersion": kind.api_version, "kind": kind.kind, **given}
        meta |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": now_text(),
                 "generation": 1}  # fmt: skip
        if kind.namespaced:
            meta["namespace"] = namespace
        made["metadata"] = meta
        key = kind.prefix(namespace) + name
        revision = self.store.put(key, made, 0)
        if revision is None:
            raise exists(kind, name)
        return self.show(Entry(key, made, revision))

    def update(
        self, kind: Kind, namespace: str, name: str, change: Any, *, status: bool = False
    ) -> Object:
        """Change an object: `change` takes the old one and gives the new. Raises Failure 409."""
        for _try in range(_TRIES):
            entry = self.read(kind, namespace, name)
            old = entry.object
            assert old is not None
            new = change(self.show(entry))
            asked = str((new.get("metadata") or {}).get("resourceVersion", entry.revision))
            if asked != str(entry.revision):
                why = (
                    "the object has been modified; please apply your changes to the latest version"
                )
                raise conflict(kind, name, f"{why} and try again")
            kept = _kept(old, new, status)
            gone = kept["metadata"].get("deletionTimestamp") and not kept["metadata"].get(
                "finalizers"
            )
            if gone:
                revision = self.store.delete(entry.key, entry.revision)
            elif kept == old:
                return self.show(entry)
            else:
                revision = self.store.put(entry.key, kept, entry.revision)
            if revision is not None:
                return self.show(Entry(entry.key, kept, revision))
        raise conflict(kind, name, "it changes too often")

    def delete(self, kind: Kind, namespace: str, name: str, options: Object) -> Object:
        """Delete, or mark for deletion where a finalizer holds it. Raises Failure 404 and 409."""
        entry = self.read(kind, namespace, name)
        old = entry.object
        assert old is not None
        uid = (options.get("preconditions") or {}).get("uid")
        if uid and uid != old["metadata"]["uid"]:
            told = f"the UID in the precondition ({uid}) does not match the UID in record"
            raise conflict(kind, name, f"Precondition failed: UID in precondition: {uid}; {told}")
        if old["metadata"].get("finalizers"):
            meta = {**old["metadata"], "deletionTimestamp": now_text()}
            marked = {**old, "metadata": meta}
            revision = self.store.put(entry.key, marked, entry.revision)
        else:
            marked, revision = old, self.store.delete(entry.key, entry.revision)
        if revision is None:
            raise conflict(kind, name, "the object has been modified")
        return self.show(Entry(entry.key, marked, revision))


def _kept(old: Object, new: Object, status: bool) -> Object:
    """The new object with what only the server may say as it was."""
    kept = {**old, "status": new.get("status")} if status else dict(new)
    if not status and "status" in old:
        kept["status"] = new.get("status", old["status"])
    if kept.get("status") is None:
        kept.pop("status", None)
    meta = dict((new if not status else old).get("metadata") or {})
    for name in ("uid", "creationTimestamp", "name", "namespace", "generation"):
        if name in old["metadata"]:
            meta[name] = old["metadata"][name]
    if "deletionTimestamp" in old["metadata"]:
        meta["deletionTimestamp"] = old["metadata"]["deletionTimestamp"]
    meta.pop("resourceVersion", None)
    if kept.get("spec") != old.get("spec"):
        meta["generation"] = int(old["metadata"].get("generation", 1)) + 1
    kept["metadata"] = meta
    return kept
