"""One module a format; importing this package puts every reader in the registry."""
from trustlab.sources import bluesky, discord, discourse, facebook, github, instagram, intercom, linkedin, mastodon, reddit, slack, stackexchange, table, telegram, twcs, whatsapp, x_api, x_archive, youtube, zendesk, zulip
