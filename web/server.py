"""`python -m web.server`: Dagster's web server with the guard before all its routes; it takes the same options.

The seam is not public API of Dagster, so all that leans on it stands here: the class that Dagster's own command makes,
and its methods `build_middleware`, `graphql_http_endpoint` and `execute_graphql_request`.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

import click
import graphql
from dagster_webserver import app, cli
from dagster_webserver.app import DagsterWebserver  # type: ignore[attr-defined] # were it not there, it must not start
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from imaging.errors import FaceChangerError
from resources.settings import load_settings
from web.guard import Guard, Refusal, media_type

GRAPHQL_TYPES: Final = ("application/json", "application/graphql")
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's web server, which foreign pages cannot use and which changes nothing by GET."""

    def build_middleware(self) -> list[Middleware]:
        """The guard comes first."""
        hosts = [*load_settings().allowed_hosts, *_own_names(click.get_current_context().params["host"])]
        return [Middleware(Guard, hosts=hosts), *super().build_middleware()]

    async def graphql_http_endpoint(self, request: Request) -> Response:
        """Refuse what a form can send: Dagster looks for the query in the address then, or takes any type for JSON."""
        if request.method == "POST" and media_type(request.headers) not in GRAPHQL_TYPES:
            what = f"POST to GraphQL with Content-Type {media_type(request.headers) or '(none)'}."
            raise HTTPException(415, Refusal(415, what, "send application/json.").text)
        answer: Response = await super().graphql_http_endpoint(request)
        return answer

    async def execute_graphql_request(
        self, request: Request, query: str, variables: dict[str, Any] | None, operation_name: str | None
    ) -> JSONResponse:
        """Refuse a GET whose document holds more than queries, whichever of its operations is named."""
        if request.method != "POST" and not _only_reads(query):
            refusal = Refusal(405, "a mutation by GET, which any page can make a browser send.", "send it by POST.")
            raise HTTPException(refusal.status, refusal.text, {"Allow": "POST"})
        answer: JSONResponse = await super().execute_graphql_request(request, query, variables, operation_name)
        return answer


def _only_reads(query: str) -> bool:
    try:
        definitions = graphql.parse(query).definitions
    except graphql.GraphQLError:
        return True  # nothing in it is done: Dagster answers where it is malformed
    return all(
        one.operation is graphql.OperationType.QUERY
        for one in definitions
        if isinstance(one, graphql.OperationDefinitionNode)
    )


def _own_names(listens_on: str) -> list[str]:
    """The names of this machine that clients may use, given the `--host` that the server listens on."""
    return [socket.gethostname()] if listens_on in _EVERYWHERE else [listens_on]


def main() -> None:
    """Run Dagster's command with our class in the place of its own."""
    try:
        load_settings()  # a wrong one ends it here, with our own message
    except FaceChangerError as error:
        sys.exit(f"Error: {error}")
    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
