"""Files of rules and of their tests, as a command is given them: a directory, or one file, which may be a pipe."""

from pathlib import Path

from appliance import config
from appliance.model import ConfigError
from appliance.policy import Policy
from appliance.service import rulebook

MOST = rulebook.MAX_TEXT  # bytes of one file


def rules_at(path: Path) -> Policy:
    """Return the rules of a directory or a file.

    Raises:
        ConfigError: they are wrong.
    """
    found = rulebook.read(path).texts if path.is_dir() else [(str(path), text(path))]
    return config.rules(found, rulebook.Names().resolve)


def text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: it cannot be read, is longer than MOST, or no UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise ConfigError(str(path), f"longer than {MOST} bytes", "split it into several, in a directory")
        return data.decode()
    except FileNotFoundError as error:
        hint = "name a directory or a file of rules; `rules` in the settings has those in force"
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", hint) from None
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", "sudo vendorgate ...") from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
