"""What a visitor can take along from a finished run besides the download: a link, and the code that repeats it."""

from __future__ import annotations

import html

from ilo.priors.base import Prior
from ilo.records.recorder import Recorder
from ilo.records.script import preset_of, python_of
from ilo.settings import MORPH
from ilo.ui import text

# Copies the code of a button with `data-copy`, also where the page is not served over HTTPS, and says so for a moment.
COPY_SCRIPT = """
document.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-copy]');
  if (!button) return;
  const copied = async () => {
    if (navigator.clipboard) return navigator.clipboard.writeText(button.dataset.copy);
    const field = Object.assign(document.createElement('textarea'), {value: button.dataset.copy});
    document.body.append(field);
    field.select();
    const done = document.execCommand('copy');
    field.remove();
    if (!done) throw new Error();
  };
  const say = (words) => { button.textContent = words; setTimeout(() => { button.textContent = SHOWN; }, 2000); };
  try { await copied(); say(DONE); } catch { say(FAILED); }
});
"""


def links(recorder: Recorder, prior: Prior) -> str:
    """The link to the task and its settings (a morph has none), and the button that copies the code."""
    recipe = recorder.final_recipe()
    code = html.escape(python_of(recipe, preset_of(recorder.problem, recipe.settings, prior)))
    help_ = html.escape(text.COPY_HELP)
    parts = [f'<button type="button" class="copy" data-copy="{code}" title="{help_}">{text.COPY}</button>']
    if recipe.task != MORPH:
        query = html.escape(recipe.to_query(prior))
        parts.insert(0, f'<a href="?{query}" target="_blank" rel="noopener">{html.escape(text.LINK)}</a>')
    return f'<p class="fine sharing">{" · ".join(parts)}</p>'


def script() -> str:
    """The script for the page's head."""
    words = {"SHOWN": text.COPY, "DONE": text.COPIED, "FAILED": text.NOT_COPIED}
    code = COPY_SCRIPT
    for name, value in words.items():
        code = code.replace(name, repr(value))
    return f"<script>{code}</script>"


def style() -> str:
    """The style of the button: it looks like the link beside it."""
    return (
        ".sharing .copy { padding: 0; border: 0; background: none; color: var(--accent); font: inherit; "
        "cursor: pointer; } .sharing .copy:hover { text-decoration: underline; }"
    )
