"""One module a format; importing this package puts every reader in the registry."""
from trustlab.sources import mastodon, slack, twcs
