"""Sending what the handlers of phases want sent: by mail, to Slack, to webhooks (docs/notifications.md).

Beside the planner's work and no part of it: a stream lies between them, so nothing waits for a mail server.
"""
