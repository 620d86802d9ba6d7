"""Who is calling, and what they may do."""

from wit_world.imports import wit_identity

from .errors import Problem


class Principal:
    """Somebody the host has authenticated."""

    def __init__(self, principal):
        self._principal = principal

    @property
    def id(self):
        """Stable for the life of the account."""
        return self._principal.id()

    @property
    def kind(self):
        """``user`` or ``api-key``. Expect new words."""
        return self._principal.kind()

    @property
    def name(self):
        """For a user the e-mail address."""
        return self._principal.name()

    @property
    def roles(self):
        return self._principal.roles()

    @property
    def permissions(self):
        return self._principal.permissions()

    def has(self, permission):
        return self._principal.has_permission(permission)


def current():
    """The caller, or None if nobody logged in."""
    principal = wit_identity.current()
    return Principal(principal) if principal is not None else None


def require(permission=None):
    """The caller, who must have the permission, if one is named: else 401 or 403."""
    principal = current()
    if principal is None:
        raise Problem(401, "auth.required", "log in first", headers={"www-authenticate": "Bearer"})
    if permission is not None and not principal.has(permission):
        raise Problem(403, "auth.permission_missing", f"this needs the permission `{permission}`")
    return principal
