"""Sending by mail: SMTP, to the domains that the operator allows."""

import re
import socket

import structlog

from planter.notify.config import NotifyConfig, Smtp
from planter.notify.outcome import AnyOutcome, Later, Never, NotSetUp, Sent, answered
from planter.notify.texts import mail
from planter.settings import ConfigInvalid
from planter_protocol.messages import Notification

log = structlog.get_logger(__name__)

STEP_SECONDS = 10.0
"""For each answer of the server; ``notifier`` bounds all of it."""
RECIPIENTS_MAX = 20
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)")
_REMEDY = "set PLANTER_NOTIFY_SMTP_HOST and PLANTER_NOTIFY_SMTP_FROM, or [notify.smtp] in planter.toml"


async def send_mail(config: NotifyConfig, notification: Notification) -> AnyOutcome:
    """Try once to send a mail."""
    recipients = tuple(part.strip() for part in notification.address.split(",") if part.strip())
    where = f"{answered(', '.join(recipients))} by mail"
    if config.smtp is None:
        return NotSetUp(where, _REMEDY)
    if not 0 < len(recipients) <= RECIPIENTS_MAX:
        return Never(where, f"it has {len(recipients)} addresses; one to {RECIPIENTS_MAX} are possible")
    for address in recipients:
        match = _ADDRESS.fullmatch(address)
        if match is None or len(address) > 254:
            return Never(where, f"{answered(address)!r} is no mail address")
        if not {match[1].lower(), "*"} & config.domains:
            remedy = f"allowed are {', '.join(sorted(config.domains))} (setting notify.domains)"
            return Never(where, f"the domain {match[1].lower()} is not allowed; {remedy}")
    return await _deliver(config.smtp, notification, recipients, where)


async def _deliver(
    smtp: Smtp, notification: Notification, recipients: tuple[str, ...], where: str
) -> AnyOutcome:
    import aiosmtplib  # noqa: PLC0415  (only a planner that sends mail needs it)

    server = f"mail server {smtp.host}:{smtp.port}"
    try:
        refused, _ = await aiosmtplib.send(
            mail(notification, smtp.sender, recipients),
            sender=smtp.sender,
            recipients=list(recipients),
            hostname=smtp.host,
            port=smtp.port,
            username=smtp.user,
            password=smtp.password.read() if smtp.password is not None else None,
            local_hostname=socket.gethostname(),
            use_tls=smtp.tls == "tls",
            start_tls=smtp.tls == "starttls",
            timeout=STEP_SECONDS,
        )
    except ConfigInvalid as error:
        return Later(where, str(error))
    except aiosmtplib.SMTPAuthenticationError as error:
        return Later(where, f"{server} does not take our user and password ({error.code})")
    except aiosmtplib.SMTPRecipientsRefused as error:
        codes = [one.code for one in error.recipients]
        reason = f"{server} refuses the addresses: {answered(error.recipients[0].message)}"
        return Never(where, reason) if all(code >= 500 for code in codes) else Later(where, reason)
    except aiosmtplib.SMTPResponseException as error:
        reason = f"{server} answers {error.code} {answered(error.message)}"
        return Never(where, reason) if 550 <= error.code < 560 else Later(where, reason)
    except (aiosmtplib.SMTPException, OSError) as error:
        return Later(where, f"{server}: {answered(error) or type(error).__name__}")
    if refused:
        left = ", ".join(f"{name} ({answer.code})" for name, answer in sorted(refused.items()))
        log.warning("mail.partly_refused", session=notification.session_id, refused=left)
        return Sent(f"{where}, but not to {answered(left)}")
    return Sent(where)
