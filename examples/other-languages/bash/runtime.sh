#!/usr/bin/env bash
# A Planter runtime in Bash: a phase whose selector says `phase: NAME` runs the program ./phases/NAME.
# It speaks NATS itself, which is text; for JSON it needs jq. One phase at a time.
#
#     ./runtime.sh [127.0.0.1:4222]
set -u
server=${1:-127.0.0.1:4222}
cd "$(dirname "$0")" || exit 1
me="bash-${HOSTNAME//[^A-Za-z0-9_-]/-}-$$"
instance="$$.$RANDOM$RANDOM" # another one after a restart: nothing is inherited
inbox="_INBOX.$me"
output=$(mktemp)
trap 'rm -f "$output"; [[ $child ]] && kill -- "-$child" 2>/dev/null' EXIT
trap 'state=draining' TERM INT

state=ready child='' target='' reason='' # what runs
subject='' unsaid='' said_at=0 message=0 # the report that is not confirmed yet
answered='' answer=''                    # the last one that is

publish() { # SUBJECT JSON [REPLY [MESSAGE-ID]]
    local LC_ALL=C head=''
    if [[ ${4-} ]]; then
        head=$'NATS/1.0\r\nNats-Msg-Id: '"$4"$'\r\n\r\n'
        printf 'HPUB %s %s %d %d\r\n%s%s\r\n' "$1" "$3" ${#head} $((${#head} + ${#2})) "$head" "$2" >&3
    else
        printf 'PUB %s %s %d\r\n%s\r\n' "$1" "${3-}" ${#2} "$2" >&3
    fi
}

beat() {
    local held=${target:-null}
    publish "plan.runtime.$me.heartbeat" "$(
        printf '%s\n' phases/* | sed 's|.*/||' | jq -ncR --arg id "$me" --arg instance "$instance" --arg state "$state" \
            --argjson held "$held" '{runtimeId: $id, instance: $instance, state: $state, slots: 1, leaseMs: 15000,
             handlers: [inputs | {phase: .}],
             held: [$held | select(.) | {sessionId, phaseId, attempt, fence}]}'
    )"
}

echoed() { # JSON FIELDS...: what a target carried, and what is to be said about it
    jq -c --arg id "$me" "{phaseId, attempt, fence, dispatchId, runtimeId: \$id} + ($2)" <<<"$1"
}

tell() { # until it is confirmed: what a phase has done must not be lost on the way
    subject=$1 unsaid=$2 said_at=0 message=$((message + 1))
    say_again
}

say_again() {
    if [[ $unsaid ]] && ((SECONDS - said_at >= 2 || said_at == 0)); then
        publish "$subject" "$unsaid" "$inbox" "$me.$instance/$message"
        said_at=$SECONDS
    fi
}

attempt_of() { jq -r '"\(.sessionId) \(.phaseId) \(.fence)"' <<<"$1"; }

session_of() { jq -r .sessionId <<<"$1"; }

offer() {
    local name session
    session=$(session_of "$1") name=$(jq -r '.labels.phase // ""' <<<"$1")
    if [[ $(jq -r '.instance // ""' <<<"$1") != "$instance" ]]; then return; fi
    if [[ $1 == "$answered" ]]; then # it comes again: its report was not seen yet
        tell "plan.session.$session.report" "$answer"
    elif [[ $1 == "$target" ]]; then
        publish "plan.session.$session.ack" "$(echoed "$1" '{accepted: true}')"
    elif [[ $child || $unsaid || $state != ready || $name == */* || ! -x phases/$name ]]; then
        publish "plan.session.$session.ack" "$(echoed "$1" '{accepted: false, retryAfterMs: 1000, reason: "busy"}')"
    else
        target=$1 reason=''
        publish "plan.session.$session.report" "$(echoed "$1" '{status: "running"}')" # says that it is taken, too
        PLANTER_WITH=$(jq -c '.run.with // {}' <<<"$1") setsid "phases/$name" >"$output" 2>&1 </dev/null &
        child=$!
    fi
}

finish() {
    local status session fields
    wait "$child"
    status=$? session=$(session_of "$target")
    kill -- "-$child" 2>/dev/null # whatever it left behind
    if [[ -s $output ]]; then
        publish "plan.session.$session.log" "$(jq -ncR --rawfile text "$output" --argjson of "$target" --arg id "$me" \
            '{level: "info", message: $text | rtrimstr("\n"), timestamp: (now | todate), stream: "stdout",
              phaseId: $of.phaseId, attempt: $of.attempt, runtimeId: $id}')"
    fi
    if [[ $reason ]]; then
        fields='{status: "cancelled", error: {message: "cancelled"}}'
    elif ((status == 0)); then
        # The last line of the output is the result, if it is JSON.
        fields="{status: \"complete\"} + $(tail -n 1 "$output" | jq -c '{result: .}' 2>/dev/null || echo '{}')"
    else
        fields="{status: \"failed\", error: {message: \"exited with code $status\", kind: \"exit\", exitCode: $status}}"
    fi
    answered=$target answer=$(echoed "$target" "$fields")
    child='' target=''
    tell "plan.session.$session.report" "$answer"
}

take() { # SUBJECT PAYLOAD
    local one
    case $1 in
        "$inbox") [[ $2 == *'"stream"'* ]] && unsaid='' ;;
        plan.runtime.discover) beat ;;
        *.target) while IFS= read -r one; do offer "$one"; done < <(jq -c '.targets[]' <<<"$2") ;;
        *.control)
            if [[ $(jq -r .command <<<"$2") == drain ]]; then
                state=draining
            elif [[ $target && $(attempt_of "$2") == "$(attempt_of "$target")" ]]; then
                reason=cancelled
                kill -- "-$child" 2>/dev/null
            fi
            ;;
    esac
}

exec 3<>"/dev/tcp/${server%:*}/${server#*:}" || exit 4
printf 'CONNECT {"verbose":false,"headers":true,"no_responders":true,"lang":"bash"}\r\n' >&3
number=0
for of in "plan.runtime.$me.target" "plan.runtime.$me.control" plan.runtime.discover "$inbox"; do
    printf 'SUB %s %d\r\n' "$of" $((number += 1)) >&3
done
beat
echo "$me takes phases from $server" >&2
rest='' beaten=$SECONDS
while [[ $state == ready || $child || $unsaid ]]; do
    if IFS= read -r -t 0.1 line <&3; then
        line=$rest$line rest=''
        line=${line%$'\r'}
        case $line in
            PING) printf 'PONG\r\n' >&3 ;;
            MSG\ * | HMSG\ *)
                size=${line##* } of=${line#* }
                LC_ALL=C IFS= read -r -N "$size" payload <&3
                IFS= read -r _ <&3
                [[ $line == HMSG* ]] && payload='' # a server that says that nobody listens
                take "${of%% *}" "$payload"
                ;;
            -ERR*) echo "$line" >&2 ;;
        esac
    else
        (($? > 128)) || { echo "the connection was closed" >&2; exit 1; }
        rest+=$line
    fi
    if [[ $child ]] && ! kill -0 "$child" 2>/dev/null; then finish; fi
    say_again
    if ((SECONDS - beaten >= 5)); then beat; beaten=$SECONDS; fi
done
state=gone
beat
