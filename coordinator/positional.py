"""Lets a task's positional argument be left away, which invoke's parser does not know."""

from __future__ import annotations

from typing import Any

from invoke.parser.parser import ParseMachine


def allow_left_away() -> None:
    """From now on a positional argument declared `optional`, with default None, may be missing.

    It is then an empty text. invoke takes words for a positional argument only as long as that has
    no value, and refuses one without a value at the end; so the value comes right before that end.
    """
    require = ParseMachine.complete_context

    def complete_context(machine: Any) -> None:
        context = machine.context
        for argument in context.missing_positional_args if context else ():
            if argument.optional:
                argument.set_value("", cast=False)
        require(machine)

    setattr(ParseMachine, "complete_context", complete_context)  # noqa: B010
