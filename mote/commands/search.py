"""`mote search`."""

import argparse

from mote.commands.verbs import Verbs, add_verb


def add(verbs: Verbs) -> None:
    """Declare the verb."""
    search = add_verb(
        verbs,
        "search",
        _run,
        "find what a text says in videos that mote encode has been through",
        writes="nothing but what --csv, --json and --page name",
        examples=('mote search features "a red car turning left" --page hits.html',),
    )
    search.add_argument("folder", help="what mote encode wrote with --out")
    search.add_argument("queries", nargs="+", metavar="query", help='a text, such as "a red car turning left"')
    search.add_argument("--top", type=int, default=20, help="hits for each query (default: %(default)s)")
    search.add_argument("--model", help="where the model lies now, if it was moved since")
    search.add_argument("--templates", help="prompt-template file for queries that are names (default: as they are)")
    search.add_argument("--csv", help="write the hits here")
    search.add_argument("--json", help="write the hits here, with where they come from")
    search.add_argument("--page", help="write a page with a frame of each hit here")


def _run(arguments: argparse.Namespace) -> int:
    from mote.prediction.asked import check_features

    check_features(arguments.folder, arguments.model)
    from mote.prediction.search import Request, run

    request = Request(
        arguments.folder,
        arguments.queries,
        top=arguments.top,
        model=arguments.model,
        templates=arguments.templates,
        csv_file=arguments.csv,
        json_file=arguments.json,
        page=arguments.page,
    )
    return run(request)
