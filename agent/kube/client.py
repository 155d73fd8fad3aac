"""Requests to the API, tried again while what is in the way passes, and not for ever."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from agent.errors import ApiUnavailable, CommandFailed, Paused, PreconditionFailed, RescueError
from agent.host import STATE_DIR, Host
from agent.kube.paths import Resource
from agent.kube.said import Said, is_about_credentials, read_said
from agent.model.codec import canonical, parse_json

Object = dict[str, Any]
_CACHE = f"{STATE_DIR}/work/kube"
"""Where the client remembers the kinds that the API has; not in root's home."""

_OWN_PORT = re.compile(r":\d+->")
_SIGN_OF_LIFE = 30.0
"""Seconds; a coordinator gives a step up that is silent for 180 s."""


@dataclass(frozen=True)
class Patience:
    """Seconds: for one answer, between two tries, and for one request with all its tries.

    After that the plan is paused, and `resume` goes on.
    """

    answer: float = 10.0
    between: float = 1.0
    whole: float = 60.0


@dataclass(frozen=True)
class Access:
    """Who asks: the program (oc, or kubectl), and kubeconfigs, of which the first is tried first.

    A node's own one speaks to the API server on that node; the next ones reach others.
    """

    program: str
    kubeconfigs: tuple[str, ...]


class Kube:
    """The API of one cluster, asked from a host."""

    def __init__(
        self,
        host: Host,
        access: Access,
        say: Callable[[str], None],
        what: str = "",
        patience: Optional[Patience] = None,
    ) -> None:
        """Take where to ask; what: the step, for what is said where the API will not."""
        self._host, self._say, self._what = host, say, what
        self._program, self._configs = access.program, list(access.kubeconfigs)
        self._patience = patience or Patience()

    # ---- requests --------------------------------------------------------------------------------

    def get(self, resource: Resource, name: str) -> Optional[Object]:
        """One object; None where there is none."""
        return self._read(resource.path(name))

    def list(self, resource: Resource, selector: str = "") -> Optional[list[Object]]:
        """All objects of a kind, or those with labels KEY=VALUE; None: the API has no such kind."""
        query = f"?labelSelector={selector.replace('=', '%3D')}" if selector else ""
        found = self._read(f"{resource.path()}{query}")
        return None if found is None else [_object(item) for item in _listed(found)]

    def uid(self, resource: Resource, name: str) -> str:
        """The UID of one object; empty where there is none. Of a secret nothing else is read."""
        words = ["get", f"{resource.full_name}/{name}", "-o", "jsonpath={.metadata.uid}"]
        said = self._ask([*words, *resource.scope])
        return "" if isinstance(said, Said) else said.strip()

    def names(self, resource: Resource) -> tuple[str, ...]:
        """The names of all objects of a kind, sorted, and nothing else of them."""
        said = self._ask(["get", resource.full_name, "-o", "name", *resource.scope])
        found = [] if isinstance(said, Said) else said.split()
        return tuple(sorted(word.rpartition("/")[2] for word in found))

    def patch(self, resource: Resource, name: str, change: Object) -> None:
        """JSON merge patch (RFC 7386). Raises PreconditionFailed where there is no such object."""
        words = ["patch", f"{resource.full_name}/{name}", "--type=merge", "-p"]
        said = self._ask([*words, canonical(change).decode(), *resource.scope])
        if isinstance(said, Said):
            raise PreconditionFailed(f"{self._what}the API said: {said.told}", next="fab resume")

    def delete(self, resource: Resource, name: str, uid: str) -> bool:
        """Delete this very object; False where it is gone, or another one has its name by now."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        said = self._ask(["delete", "--raw", resource.path(name), "-f", "-"], canonical(options))
        return not isinstance(said, Said)

    def apply(self, thing: Object) -> None:
        """Make an object as `apply` does."""
        said = self._ask(["apply", "--validate=false", "-f", "-"], canonical(thing))
        if isinstance(said, Said):
            raise ApiUnavailable(f"{self._what}the API said: {said.told}", next="fab resume")

    def can(self, verb: str, resource: Resource) -> bool:
        """Whether RBAC lets us; a look, and no promise: webhooks are not asked."""
        words = ["auth", "can-i", verb, resource.full_name, *resource.scope]
        return not isinstance(self._ask(words, yes_or_no=True), Said)

    # ---- asking ----------------------------------------------------------------------------------

    def _read(self, path: str) -> Optional[Object]:
        said = self._ask(["get", "--raw", path])
        if isinstance(said, Said):
            return None
        return _object(parse_json(said, f"answer of the API ({path})"))

    def _ask(
        self, words: Sequence[str], body: Optional[bytes] = None, yes_or_no: bool = False
    ) -> Union[str, Said]:
        """The answer, or a Said of kind missing, exists or conflict.

        Raises Paused where the API will not, ApiUnavailable where it stays silent.
        """
        deadline = time.monotonic() + self._patience.whole
        told: dict[str, float] = {}  # what is in the way → when it was said last
        while True:
            answer = self._once(words, body, yes_or_no)
            if not isinstance(answer, Said) or answer.kind in ("missing", "exists", "conflict"):
                return answer
            if answer.kind == "denied":
                raise self._denied(answer)
            if answer.kind == "silent":
                self._configs.append(self._configs.pop(0))
            if time.monotonic() + self._patience.between > deadline:
                raise self._unavailable(answer)
            self._tell(answer.told, told)
            time.sleep(self._patience.between)

    def _tell(self, what: str, told: dict[str, float]) -> None:
        """Say what is in the way: each thing once, and a sign of life now and then.

        Two API servers that are asked in turn have two things to say, and none of them is news
        because this end of a connection has another port.
        """
        now, thing = time.monotonic(), _OWN_PORT.sub("->", what)
        if thing not in told or now - max(told.values()) >= _SIGN_OF_LIFE:
            self._say(f"the API does not do it yet, trying again: {what}")
            told[thing] = now

    def _once(
        self, words: Sequence[str], body: Optional[bytes], yes_or_no: bool
    ) -> Union[str, Said]:
        argv = [self._program, f"--kubeconfig={self._configs[0]}", f"--cache-dir={_CACHE}",
                f"--request-timeout={self._patience.answer:g}s", *words]  # fmt: skip
        try:
            ended = self._host.run(argv, self._patience.answer * 3, range(256), input=body)
        except CommandFailed as error:
            return read_said(error.seen)
        if yes_or_no and ended.code and ended.stdout.strip() == "no":
            return Said("missing", "no")
        return ended.stdout if ended.code == 0 else read_said(ended.stderr or ended.stdout)

    def _denied(self, said: Said) -> RescueError:
        if is_about_credentials(said.told):
            return Paused(
                f"{self._what}the API does not take this kubeconfig: {said.told}",
                "its certificate or token has ended, or is another cluster's",
                "bring one that it takes: fab resume --kubeconfig FILE",
            )
        return Paused(
            f"{self._what}the API refused it: {said.told}",
            "asking again would change nothing: what refuses it has to let it pass first",
            "mend that (the role, the webhook, the object it names), then: fab resume",
        )

    def _unavailable(self, said: Said) -> RescueError:
        return ApiUnavailable(
            f"{self._what}the API did not do it for {self._patience.whole:g} s, and last said: "
            f"{said.told}",
            "what was done so far stays done, and is not done twice",
            "once the API answers: fab resume",
        )


def _object(value: Any) -> Object:
    if not isinstance(value, dict):
        raise ApiUnavailable("the API answered with something that is no object", next="fab resume")
    return value


def _listed(found: Object) -> list[Any]:
    items = found.get("items")
    return items if isinstance(items, list) else []
