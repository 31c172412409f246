"""What a template does with short conversations, found by rendering them: nothing in its text says so reliably."""

from collections.abc import Callable
from dataclasses import replace

from engine.text.message_forms import Message, Traits

#: (messages, traits) -> the prompt, or None where the template fails or refuses.
Render = Callable[[list[Message], Traits], str | None]

ASKED, TOLD = "quokka", "numbat"  # words that no template has


def find_traits(render: Render, source: str) -> Traits:
    """Traits of a template. One that fails on a single plain message keeps those of the most usual template."""
    user = {"role": "user", "content": ASKED}
    tried = [Traits(), Traits(wants_tools_undefined=True), Traits(reads_functions=True)]
    tried += [replace(traits, takes_parts=True) for traits in tried]
    is_silent = False
    for traits in tried:
        text = render([user], traits)
        if _shows(text, ASKED):
            return _with_roles(render, source, traits, user)
        is_silent |= text is not None
    return Traits(shows_user=not is_silent)


def _with_roles(render: Render, source: str, traits: Traits, user: Message) -> Traits:
    def is_shown(role: str, traits: Traits) -> bool:
        text = render([{"role": role, "content": TOLD}, user], traits)
        return _shows(text, TOLD) and _shows(text, ASKED)

    call = {"type": "function", "id": "call00001", "function": {"name": "look", "arguments": {}}}
    calling = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call00001", "name": "look", "content": TOLD}
    answered = render([user, calling, result], traits)
    knowing = replace(traits, knows_developer=True)
    return replace(
        traits,
        shows_system=is_shown("system", traits),
        knows_tools="tool" in source,
        drops_results=answered is not None and not _shows(answered, TOLD),
        # A template that writes any role's name would write one that its model has never read.
        knows_developer="developer" in source and is_shown("developer", knowing),
    )


def _shows(text: str | None, word: str) -> bool:
    return text is not None and word in text.lower()
