"""What each channel is: whose eyes it reaches, and what it needs to reach them."""

import msgspec


class ChannelRule(msgspec.Struct, frozen=True):
    """One row of the channel table.

    Attributes:
        personal: it reaches one person alone, so it needs `contact` for the channel.
        contact_point: kind of contact point it is sent to, where it has one.
        shared: others may read it.
    """

    personal: bool = False
    contact_point: str | None = None
    shared: bool = False


CHANNELS: dict[str, ChannelRule] = {
    "SCREEN": ChannelRule(shared=True),
    "PUSH": ChannelRule(personal=True, contact_point="PUSH"),
    "EMAIL": ChannelRule(personal=True, contact_point="EMAIL"),
    "SMS": ChannelRule(personal=True, contact_point="PHONE"),
    "SESSION": ChannelRule(personal=True),
    "TILL": ChannelRule(),
    "WALLET": ChannelRule(personal=True, contact_point="WALLET"),
    "TASK": ChannelRule(),
    "LABEL": ChannelRule(shared=True),
    "ACTUATOR": ChannelRule(),
    "AUDIENCE": ChannelRule(),
    "AR": ChannelRule(),
    "WEBHOOK": ChannelRule(),
    "MINT": ChannelRule(),
}
PARTS = (*(name.lower() for name in CHANNELS), "screen_personal")
"""Parts a template may have."""
PURPOSES = (
    "in_store_location",
    "linking",
    "personalisation",
    "profiling",
    "display_name",
    "contact",
    "measurement",
    "assistance",
    "audience_export",
    "ownership",
)
"""The closed list of purposes a consent may name."""
