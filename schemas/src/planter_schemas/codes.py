"""Every code that a problem can have: a title and a paragraph of explanation each.

10xx reading the text, 11xx shape (keys and values), 12xx references and graph, 13xx extensions. A code never
changes its meaning; a code that is no longer used stays in the table.
"""

from typing import NamedTuple


class Explanation(NamedTuple):
    """What a code stands for."""

    title: str
    text: str


_READING = {
    "PLT-1001": Explanation(
        "file not found",
        "There is no file with this name. Names are relative to the current folder; `-` reads standard "
        "input.",
    ),
    "PLT-1002": Explanation(
        "file cannot be read",
        "The file exists, but reading it failed: it is a folder, or this user may not read it.",
    ),
    "PLT-1003": Explanation(
        "manifest too large",
        "A JSON manifest may have 64 MiB, a YAML manifest 16 MiB. The size is checked before anything is "
        "read. Large plans are best generated as JSON, with data kept outside of the manifest.",
    ),
    "PLT-1004": Explanation(
        "text is not valid UTF-8",
        "Manifests are UTF-8 text. A file in another encoding (UTF-16, Latin-1) must be converted first; "
        "a string must not hold half of a surrogate pair such as `\\ud800`, which no UTF-8 text can carry.",
    ),
    "PLT-1005": Explanation(
        "manifest is empty",
        "The text holds nothing, or comments only. A manifest without phases is written `[]`: an empty "
        "file is more often a slip, such as a failed template or redirection.",
    ),
    "PLT-1006": Explanation(
        "not valid JSON",
        "The text breaks JSON's grammar (RFC 8259). Frequent causes: a comma behind the last element, "
        "comments, single quotes, a missing comma or bracket. YAML allows most of these: name the file "
        "`.yaml`.",
    ),
    "PLT-1007": Explanation(
        "not valid YAML",
        "The text breaks YAML's grammar. Frequent causes: tabs for indentation, a key at another "
        "indentation than its neighbours, a missing space behind a colon, text with `: ` or `#` that "
        "needs quotes.",
    ),
    "PLT-1008": Explanation(
        "key given twice",
        "The same key stands twice in one object. Parsers differ in which one they keep, so one of the "
        "two would be lost in silence; Planter refuses both.",
    ),
    "PLT-1009": Explanation(
        "nested too deeply",
        "Objects and lists may stand inside each other 64 levels deep. No honest manifest comes near this.",
    ),
    "PLT-1010": Explanation(
        "number cannot be represented",
        "`NaN` and `Infinity` are no JSON numbers, and an integer must fit into 64 bits, or the next "
        "program would read another number. Write such a value as a string.",
    ),
    "PLT-1011": Explanation(
        "too many values",
        "The document has more values than Planter is willing to hold in memory: 5,000,000 brackets and "
        "commas for JSON, 1,000,000 keys and values for YAML.",
    ),
    "PLT-1012": Explanation(
        "undefined alias",
        "A YAML alias (`*name`) needs its anchor (`&name`) earlier in the same document. Anchors of other "
        "files or documents are not visible.",
    ),
    "PLT-1013": Explanation(
        "alias inside its own anchor",
        "The alias stands inside the part that its anchor names: the document would contain itself.",
    ),
    "PLT-1014": Explanation(
        "aliases expand to too much",
        "A document may use 1,000 aliases, and have 1,000,000 keys and values when all are expanded. A "
        "few lines of aliases of aliases can stand for billions of values (a 'YAML bomb').",
    ),
    "PLT-1015": Explanation(
        "tag not allowed",
        "Tags such as `!!python/object` or `!secret` ask the reader to construct something else than "
        "plain data. Planter reads plain data only: `!!str`, `!!int`, `!!float`, `!!bool`, `!!null`, "
        "`!!map`, `!!seq`.",
    ),
    "PLT-1016": Explanation(
        "key is not plain text",
        "YAML allows lists and objects as keys; a manifest's keys are text.",
    ),
    "PLT-1017": Explanation(
        "merge key has no object",
        "The value of the merge key `<<` must be an object, or a list of objects, usually given by aliases.",
    ),
    "PLT-1018": Explanation(
        "too many problems",
        "Only the first 1,000 errors and 1,000 warnings are listed. Repair these and check again.",
    ),
}

_SHAPE = {
    "PLT-1101": Explanation(
        "not a phase manifest",
        "A manifest is a list of phases, one phase, an object with `phases:` (a list), an object with "
        "`plan:` (phases by name), or several YAML documents of these. Phase Manifest Protocol, 'Phase "
        "Manifest Format'.",
    ),
    "PLT-1102": Explanation(
        "unknown key",
        "The key has no meaning here. It is refused, not ignored, because an ignored key is a setting "
        "that silently does not work. Own extensions carry the prefix `x-` and are kept (protocol, "
        "'Compliance').",
    ),
    "PLT-1103": Explanation(
        "key given in two spellings",
        "`waitFor`, `wait_for` and `WaitFor` are the same key; one object may hold only one of them.",
    ),
    "PLT-1104": Explanation(
        "wrong type",
        "The value is of another type than this key takes, for example a list where a string is expected.",
    ),
    "PLT-1105": Explanation(
        "required key missing",
        "A phase has an id (`id`, or `metadata.name`, or its key under `plan:`) and a `spec`, which may "
        "be `{}`.",
    ),
    "PLT-1106": Explanation(
        "wrong kind",
        "`kind` of a phase is always `Phase`, of an object with `phases:` or `plan:` it is "
        "`PhaseManifest`. It may be left out. Other kinds of documents are not part of a phase manifest.",
    ),
    "PLT-1107": Explanation(
        "value not allowed",
        "The key takes one of a few values, which the message lists.",
    ),
    "PLT-1108": Explanation(
        "not a duration",
        "A duration is a whole number with `ms`, `s`, `m` or `h`; a number alone is seconds. Ten years at "
        "most.",
    ),
    "PLT-1109": Explanation(
        "not a count",
        "`maxAttempts` is the number of all attempts, the first included: 1 to 1000, as a number or as "
        "digits.",
    ),
    "PLT-1110": Explanation(
        "phase id not allowed",
        "A phase id has 1 to 128 printable characters, without blanks at either end.",
    ),
    "PLT-1111": Explanation(
        "variable without a value",
        "`${NAME}` needs a value from the caller or a default: `${NAME:default}`. The environment is not "
        "read, so that a manifest means the same everywhere. A literal `${` is written `$${`.",
    ),
    "PLT-1112": Explanation(
        "too many phases",
        "A manifest may have 100,000 phases. Split it into several sessions.",
    ),
    "PLT-1113": Explanation(
        "instance mode read as immediate",
        "`parallel` and `sequential` occur in older manifests, but no program ever gave them a meaning. "
        "They are read as `immediate`: a phase starts as soon as what it waits for is complete.",
    ),
    "PLT-1114": Explanation(
        "id and metadata.name differ",
        "Both name the phase. Give one of them, or the same text in both.",
    ),
    "PLT-1115": Explanation(
        "forms mixed",
        "One manifest is written in one form: `phases:` or `plan:`, and several YAML documents are each a "
        "phase or a list of phases.",
    ),
    "PLT-1116": Explanation(
        "text not allowed here",
        "The text is empty, or holds a NUL character, which no process, header or file name can carry.",
    ),
}

_REFERENCES = {
    "PLT-1201": Explanation(
        "waits for an unknown phase",
        "No phase has this id, but one has nearly the same: most likely a typing error. If the phase "
        "really belongs to an earlier plan of the session, give it an id that differs more.",
    ),
    "PLT-1202": Explanation(
        "waits for an external phase",
        "No phase of this manifest has this id. The phase waits until its session knows the id as "
        "complete, which an earlier plan or another client can bring about. Strict checking makes this an "
        "error.",
    ),
    "PLT-1203": Explanation(
        "phase id used twice",
        "Ids are unique within a manifest (protocol, 'Top-Level Fields').",
    ),
    "PLT-1204": Explanation(
        "phases wait for each other in a circle",
        "None of these phases could ever start. Remove one of the waits, or split a phase in two.",
    ),
    "PLT-1205": Explanation(
        "phase waits for itself",
        "The phase could never start.",
    ),
    "PLT-1206": Explanation(
        "target phase unknown",
        "`targetPhase` restricts the plan to one phase and what it waits for; no phase has this id.",
    ),
    "PLT-1207": Explanation(
        "name given twice",
        "The same phase stands twice in one list of waits. It has no effect; perhaps another was meant.",
    ),
}

_EXTENSIONS = {
    "PLT-1301": Explanation(
        "x-run needs exactly one way to run",
        "`x-run` has one of `python`, `exec`, `shell`, `http`, `container`, `noop`, `wait` and `approval`, "
        "or only `with`: arguments for the handler that the selector chooses.",
    ),
    "PLT-1302": Explanation(
        "x-run value not usable",
        "`python` is `module:function`; `exec` is a list of strings, the program first; `shell` is a script.",
    ),
    "PLT-1303": Explanation(
        "x-retry value not usable",
        "`x-retry` is `{initial: 1s, factor: 2, max: 1m, jitter: 0.1}`: the wait before the second "
        "attempt, what it is multiplied with each time (1 to 100), its maximum, and the share that is "
        "drawn at random (0 to 1).",
    ),
    "PLT-1304": Explanation(
        "two different timeouts",
        "`x-timeout` (or its `startToClose`) and `x-run.timeout` mean the same: how long one attempt may "
        "take. Give one of them.",
    ),
    "PLT-1305": Explanation(
        "x-priority not a priority",
        "A whole number from -1000 to 1000; phases with a larger one are offered first. The default is 0.",
    ),
    "PLT-1306": Explanation(
        "x-capabilities not a list of names",
        "A list of texts; only a runtime that has all of them is offered the phase.",
    ),
    "PLT-1307": Explanation(
        "extension given twice",
        "The same `x-` key stands in two places that mean the same (beside and inside `spec`, or spelled "
        "with another case).",
    ),
    "PLT-1308": Explanation(
        "attempts given twice",
        "`retry.maxAttempts` and `x-retry.maxAttempts` mean the same. Keep the first, which is the "
        "protocol's.",
    ),
    "PLT-1309": Explanation(
        "timeout that never runs out",
        "`x-timeout` has up to four timeouts: `scheduleToStart` (from ready to the start of an attempt), "
        "`startToClose` (one attempt), `heartbeat` (silence of an attempt) and `scheduleToClose` (all "
        "attempts and the waits between). One that is longer than the timeout around it has no effect, "
        "because the other one always runs out before it.",
    ),
    "PLT-1310": Explanation(
        "expression cannot be used",
        "`x-when`, and `${{ ... }}` in `x-run`, hold expressions of the Common Expression Language (CEL). "
        "They see `phases` (by id: `status`, `attempt`, `result`) and `session` (`id`, `revision`), in a "
        "phase with `x-foreach` also `item` and `index`; for example `phases.build.result.count > 0`. "
        "`x-when` must be true or false.",
    ),
    "PLT-1311": Explanation(
        "expression names a phase that is not over",
        "An expression may use only phases that come before its own: name them in `waitFor`, directly or "
        "through others, so that they have ended when it is evaluated.",
    ),
    "PLT-1312": Explanation(
        "x-outputs not a list of names",
        "A list of keys that the result of the phase, a JSON object, must have. The attempt fails when one "
        "is missing, so that what reads it later does not.",
    ),
    "PLT-1313": Explanation(
        "x-concurrency not usable",
        "`x-concurrency: KEY`, or `{key: KEY, max: 3}`: of the phases of a session with the same key, so "
        "many run at the same time at most (1 by default).",
    ),
    "PLT-1314": Explanation(
        "expression where none is evaluated",
        "`${{ ... }}` is filled in inside of `with`, `env`, `noop` and the arguments of `exec`. A list of "
        "`x-foreach` is taken as it stands (an expression that gives a list is evaluated). A script, a "
        "program's name or a function's name stays as it is written, because a value that becomes part of a "
        "script could be a script itself: hand it over in `env` and use it as a variable.",
    ),
    "PLT-1315": Explanation(
        "x-foreach not usable",
        "`x-foreach: [a, b]`, `x-foreach: phases.list.result.files`, or `{items: ..., parallel: 4}`: the "
        "phase is done once for each item. Expressions in its `x-run` see `item` and `index`. A phase has "
        "one limit: `parallel`, or `x-concurrency`.",
    ),
    "PLT-1316": Explanation(
        "id of an item",
        "Every item of a phase with `x-foreach` is a phase of its own: `resize[0]`, `resize[1]`, ... No "
        "phase of the manifest may have such an id, or wait for one: how many items there are is not known "
        "before. Wait for the phase itself.",
    ),
    "PLT-1317": Explanation(
        "x-cache not usable",
        "`x-cache: true`, or `{key: phases.fetch.result.etag, maxAge: 24h}`: the phase is not run when a "
        "phase with the same content has been before, and gets its result. In a phase with `x-foreach` the "
        "key has to use `item` or `index`: all its items would get one result.",
    ),
    "PLT-1318": Explanation(
        "x-run http not usable",
        "`http: {url: https://host/path, method: POST, headers: {Accept: text/plain}, query: {page: 2}, "
        "body: text, expect: [200, 404], followRedirects: false}`; only `url` is required. The arguments "
        "under `with` are sent as JSON when there is no `body`.",
    ),
    "PLT-1319": Explanation(
        "x-run limits not usable",
        "`limits: {memory: 512MiB, cpu: 30s, openFiles: 256, fileSize: 1GiB, output: 10MiB}`: sizes are "
        "bytes, or a number with KiB, MiB, GiB (1024) or kB, MB, GB (1000).",
    ),
    "PLT-1320": Explanation(
        "x-run secrets not usable",
        "`secrets: {API_TOKEN: deploy-token}`: the environment variable, and the name under which the "
        "runtime was started with it (`--secret deploy-token=FILE`). The secret itself is in no manifest.",
    ),
    "PLT-1321": Explanation(
        "x-run container not usable",
        "`container: {image: python:3.12-slim, command: [python, -V], entrypoint: [...], mount: /work, "
        "network: none, user: '1000', pull: missing, readOnly: true}`; only `image` is required.",
    ),
    "PLT-1322": Explanation(
        "x-run wait or approval not usable",
        "`wait: {for: 10m}` or `wait: {until: 2026-12-24T18:00:00Z}`; `approval: {message: Deploy?, "
        "approvers: [alice, bob], needed: 1, expires: 24h, onExpiry: fail, notify: {slack: '#ops'}}`, of "
        "which only `message` is required.",
    ),
    "PLT-1323": Explanation(
        "no use without a runtime",
        "`wait` and `approval` are decided by the planner: nothing runs, so nothing can be chosen, limited, "
        "watched or kept for later. Leave the setting out. Limits that do mean something: `waitFor.timeout`, "
        "`x-timeout.scheduleToClose`, `approval.expires`.",
    ),
    "PLT-1331": Explanation(
        "x-constraints or x-affinity not usable",
        "`x-constraints: [{label: gpu.memory, operator: '>=', value: 16}]`: only runtimes whose labels "
        "fulfil all of them get the phase. The operators are =, !=, >, >=, <, <=, regexp, version, "
        "set_contains, set_contains_any, is_set and is_not_set; = unless given. `x-affinity` is the same "
        "with a `weight` from -100 to 100, and only prefers. `planter.runtime`, `planter.host` and "
        "`planter.version` say what the runtime is.",
    ),
    "PLT-1332": Explanation(
        "pattern or version comparison not usable",
        "The value of `regexp` is a regular expression in a part of RE2's syntax: no back references, no "
        "look-around, no flags, and `^` and `$` only at the ends of the pattern or of its alternatives; so "
        "that no pattern takes long. The value of `version` is a list such as `>= 1.2, < 2` or `~> 1.4.0`.",
    ),
    "PLT-1333": Explanation(
        "x-slots not a number of slots",
        "A whole number from 1 to 1000: how many slots of its runtime an attempt takes, 1 unless given.",
    ),
    "PLT-1324": Explanation(
        "x-run artifacts not usable",
        "`artifacts: [report.html, 'out/*.csv']`: files of the folder that the phase runs in, as relative "
        "paths in which `*` stands for a part of a name and `**` for any folders. Phases that start a "
        "program can have them; handlers keep files with `ctx.artifact`.",
    ),
}

CODES: dict[str, Explanation] = _READING | _SHAPE | _REFERENCES | _EXTENSIONS
"""All codes with their explanations, in order."""


def explain(code: str) -> str:
    """Title and explanation of a code, for ``planter`` to print; the case of the code does not matter.

    Raises:
        KeyError: there is no such code.
    """
    known = CODES[code.upper()]
    return f"{code.upper()}: {known.title}\n\n{known.text}\n"
