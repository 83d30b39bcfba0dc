"""A user-defined operator, complete in this file."""

import ilo
from ilo import Setting


@ilo.register
class ChannelMix(ilo.Operator):
    """Each colour is mixed with another one."""

    name, title, formula = "channel-mix", "Unmix the colours", "y = (1 − a) x + a x'"
    label, help = "Unmix", "Every colour is mixed with the next one."
    upload = "as it is"
    amount: float = Setting.number(
        0.25, 0.0, 1.0, step=0.05, unit="%", label="Mixed", help="a: how much of the other colour there is."
    )
    direction: str = Setting.choice(
        "right", {"right": "Next", "left": "Last"}, label="Which", help="Which colour is the other one."
    )

    def forward(self, x):
        other = x.roll(1 if self.direction == "right" else -1, 1)
        return (1 - self.amount) * x + self.amount * other
