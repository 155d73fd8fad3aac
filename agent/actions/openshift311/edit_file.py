"""Change one text file of a host, its former bytes kept, and restart what reads it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Optional

from agent.actions.base import Action, Context, Data
from agent.actions.edits import as_bytes, changed_meanwhile, former_text, remember_file, times_of
from agent.errors import CommandFailed, StepFailed
from agent.survey.unit import read_text


class EditFile(Action[Any]):
    """undo data: {"file": as `remember_file` gives it, "restart": unit or ""}.

    Former bytes lie in a file of their own below the state directory, never in the journal.
    """

    @abstractmethod
    def path(self, ctx: Context, args: Any) -> str:
        """Give the file."""

    @abstractmethod
    def changed(self, ctx: Context, args: Any, text: str) -> str:
        """Give the text as it is to be; the same text where it is so already. Raises Refused."""

    def unit(self, ctx: Context, args: Any) -> str:
        """Give the unit that reads the file, empty for none."""
        return ""

    def try_out(self, ctx: Context, args: Any, text: str) -> None:
        """Raise StepFailed where the new text will not do; it is in place nowhere yet."""

    def is_active(self, ctx: Context, args: Any, since: float) -> bool:
        """Say whether what reads the file has read it since."""
        return True

    def check(self, ctx: Context, args: Any) -> None:
        self.changed(ctx, args, read_text(ctx.host, self.path(ctx, args)))

    def is_done(self, ctx: Context, args: Any, undo: Optional[Data]) -> bool:
        text = read_text(ctx.host, self.path(ctx, args))
        is_written = self.changed(ctx, args, text) == text
        return is_written and undo is not None and self.is_active(ctx, args, undo["since"])

    def prepare(self, ctx: Context, args: Any) -> Data:
        path = self.path(ctx, args)
        return {"file": remember_file(ctx, path), "since": ctx.host.now()}

    def act(self, ctx: Context, args: Any, undo: Data) -> Data:
        path = undo["file"]["path"]
        seen = read_text(ctx.host, path)
        before = former_text(ctx, undo["file"], seen)
        after = self.changed(ctx, args, before)
        if seen not in (before, after):
            raise changed_meanwhile(path)
        if after != seen:
            self.try_out(ctx, args, after)
            ctx.host.write_atomic(path, as_bytes(after), like=ctx.host.stat(path))
        if not self.is_active(ctx, args, undo["since"]):
            self.restart(ctx, args)
        return {"path": path, "changed": after != before}

    def restart(self, ctx: Context, args: Any) -> None:
        """Restart the unit. Raises StepFailed where systemd does not."""
        unit = self.unit(ctx, args)
        try:
            ctx.host.run(["systemctl", "restart", unit], timeout=90)
        except CommandFailed as error:
            raise StepFailed(
                f"{unit} was not restarted: {error.seen}",
                f"it reads {self.path(ctx, args)}, which was changed",
                f"look at: systemctl status {unit}; then: fab resume   (or: fab rollback)",
            ) from None

    def prove(self, ctx: Context, args: Any, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{undo['file']['path']} is not as it was written, or not in force")

    def undo(self, ctx: Context, args: Any, undo: Data) -> None:
        file = undo["file"]
        ctx.host.clear_cut_write(file["path"])
        if not (ctx.host.exists(file["former"]) and ctx.host.exists(file["path"])):
            return  # it never came to a change
        former = read_text(ctx.host, file["former"])
        if read_text(ctx.host, file["path"]) != former:
            like, times = ctx.host.stat(file["path"]), times_of(file)
            ctx.host.write_atomic(file["path"], as_bytes(former), like=like, times=times)
        # What reads it may have read the other one still: an undo that was cut begins anew.
        replaced = ctx.host.stat(file["path"]).st_ctime
        is_ours = replaced >= undo["since"]
        if self.unit(ctx, args) and is_ours and not self.is_active(ctx, args, replaced):
            self.restart(ctx, args)
