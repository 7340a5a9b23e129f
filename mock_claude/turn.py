"""One turn: from the user's message to its result."""

from typing import NamedTuple

from mock_claude import answers, asking, events, failures, machine, money, scenario, tools
from mock_claude.calls import Call, Outcome, ToolFailed, failed, rejected
from mock_claude.cli import Cli, Interrupted, Message, Signalled
from mock_claude.machine import Json
from mock_claude.speech import Speech

INTERRUPTED = "[Request interrupted by user]"
INTERRUPTED_TOOL = "[Request interrupted by user for tool use]"
SIGINT = 2


class Ending(Exception):
    """The turn is over before its script is."""

    def __init__(self, subtype: str, reason: str, stop_reason: str | None, error: str = "") -> None:
        super().__init__(subtype)
        self.subtype = subtype
        self.reason = reason
        self.stop_reason = stop_reason
        self.errors = [error] if error else []
        self.more: Json = {}


class Start(NamedTuple):
    """What a turn begins with."""

    messages: list[Message]
    origin_run: str = ""


class Turn:
    """One turn of the conversation."""

    def __init__(self, cli: Cli, start: Start) -> None:
        self.cli = cli
        self.messages = list(start.messages)
        self.origin_run = start.origin_run
        self.started = machine.now()
        self.uuids = [message.uuid for message in start.messages if message.uuid]
        self.speech = Speech(cli, self.uuids)
        self.denials: list[Json] = []
        self.user_events = 0
        self.structured: object = None
        self.needs_answer = True
        self.in_tool = False
        self.is_aborted_quietly = False
        self.holds_result = False  # until background agents have reported
        self.speech.before = self.before_call

    @property
    def prompt(self) -> str:
        """The text of all messages of the turn."""
        return "\n".join(message.text for message in self.messages)

    # -- running

    def play(self, script: answers.Script) -> None:
        """Play a script to its result. Raises Signalled after telling what a signal does."""
        ending = Ending("success", "completed", "end_turn")
        try:
            answers.perform(self, script)
            self.speech.end("end_turn")
            fields = {"stop_hook_active": False, "last_assistant_message": self.speech.last_text}
            self.cli.hook("Stop", {**fields, "background_tasks": [], "session_crons": []})
            if self.structured is not None:
                ending.stop_reason = "tool_use"
        except Ending as early:
            ending = early
            self.speech.end(early.stop_reason or "end_turn")
        except Interrupted:
            ending = self.abort()
        except Signalled as signalled:
            if signalled.number == SIGINT and not self.is_aborted_quietly:
                quiet = self.speech.is_waiting_for_headers
                ending = self.abort()
                if not quiet:
                    self.finish(ending)
            raise
        self.finish(ending)

    def abort(self) -> Ending:
        """Tell that the user stopped the turn; how it then ends."""
        in_tool = self.in_tool
        self.in_tool = False
        self.say_as_user(INTERRUPTED_TOOL if in_tool else INTERRUPTED)
        self.speech.close_aborted()
        stop = "tool_use" if in_tool else None
        diagnostic = f"[ede_diagnostic] result_type=user last_content_type=n/a stop_reason={stop}"
        reason = "aborted_tools" if in_tool else "aborted_streaming"
        diagnostic = diagnostic.replace("None", "null")
        return Ending("error_during_execution", reason, stop, diagnostic)

    def say_as_user(self, text: str) -> None:
        """A `user` event with a text block."""
        self.user([{"type": "text", "text": text}])

    def user(self, content: list[Json], **more: object) -> None:
        """A `user` event of the main conversation."""
        cli = self.cli
        uuid = cli.ids.uuid()
        message = {"role": "user", "content": content}
        self.user_events += 1
        cli.emit(
            {
                "type": "user",
                "message": message,
                "parent_tool_use_id": None,
                "session_id": cli.session.id,
                "uuid": uuid,
                "timestamp": machine.iso(),
                **more,
            }
        )
        cli.session.record("user", message, uuid, isMeta=True)

    # -- limits

    def before_call(self) -> None:
        """Refuse another API call when the turns are used up."""
        limit = int(float(self.cli.options.value("max-turns", "0")))
        if limit and self.speech.calls >= limit:
            text = f"Reached maximum number of turns ({limit})"
            raise Ending("error_max_turns", "max_turns", "tool_use", text)

    def after_call(self, stop_reason: str) -> None:
        """Close the API message and look at the budget."""
        self.speech.end(stop_reason)
        given = self.cli.options.value("max-budget-usd")
        if given and self.cli.ledger.spent_here_usd > float(given):
            text = f"Reached maximum budget (${given})"
            ending = Ending("error_max_budget_usd", "budget_exhausted", stop_reason, text)
            raise ending

    def fail(self, trouble: failures.Trouble, **more: object) -> None:
        """Tell an API error; the turn ends with it."""
        failure = trouble.failure
        fields: Json = {"error": failure.error, "is_api_error_message": True, **more}
        ending = Ending("success", failure.reason, "stop_sequence")
        if failure.status:
            fields |= {"request_id": self.cli.ids.request(), "api_error_status": failure.status}
        for key, value in (("api_error_type", failure.api_type), ("api_error", failure.api_error)):
            if value:
                fields[key] = ending.more[key] = value
        self.speech.synthetic(trouble.text, **fields)
        ending.more |= {"is_error": True, "api_error_status": failure.status}
        raise ending

    # -- tools

    def run_call(self, call: Call) -> Outcome:
        """Ask for, run and report one call. Raises Interrupted and Signalled after its result."""
        self.in_tool = True
        decision: Json = {}
        try:
            verdict = asking.seek(self.cli, call)
            decision = verdict.decision
            outcome = verdict.refused
            if outcome is None:
                outcome = self._run(call._replace(input=verdict.input))
            elif verdict.is_denial:
                self._deny(call)
        except (asking.DeniedAndStopped, Interrupted):
            if not decision:
                self._deny(call)
            self.report(call, rejected(), {})
            raise Interrupted from None
        except Signalled as signalled:
            self._report_killed(call, signalled, decision)
            raise
        self.report(call, outcome, decision)
        self.in_tool = False
        self.needs_answer = True
        return outcome

    def _run(self, call: Call) -> Outcome:
        runner = tools.RUNNERS.get(call.name, tools.run_other)
        if call.name in answers.TURN_TOOLS:
            return answers.TURN_TOOLS[call.name](self, call)
        try:
            outcome = runner(self.cli, call)
        except ToolFailed as error:
            outcome = failed(str(error))
        fields = {"tool_name": call.name, "tool_input": call.input, "tool_use_id": call.id}
        if self.cli.hooks.get("PostToolUse"):
            response = {"tool_response": outcome.result}
            self.cli.hook("PostToolUse", {**fields, **response}, matcher=call.name)
        return outcome

    def _deny(self, call: Call) -> None:
        from mock_claude import permissions

        shown = permissions.normalise(call.name, call.input, self.cli.cwd)
        self.denials.append({"tool_name": call.name, "tool_use_id": call.id, "tool_input": shown})

    def _report_killed(self, call: Call, signalled: Signalled, decision: Json) -> None:
        if not decision:  # a question was pending: it is withdrawn, and nothing more is said
            self.is_aborted_quietly = True
        elif signalled.number == SIGINT:
            self.report(call, rejected(), {})
        else:
            self.report(call, failed("Exit code 137"), decision)

    def take_injected(self) -> list[Json]:
        """The steps of messages that arrived while a tool ran: they join this turn."""
        if not self.needs_answer or not self.user_events:
            return []
        joined, self.cli.queue = self.cli.queue, []
        steps: list[Json] = []
        for message in joined:
            self.messages.append(message)
            self.cli.lifecycle(message.uuid, "started")
            if message.uuid:
                self.uuids.append(message.uuid)
            uuids = [message.uuid] if message.uuid else []
            self.cli.session.remember_prompt(message.text, self.cli.ids.uuid(), uuids)
            steps += scenario.flatten(scenario.extract(message.text)[1])
        return steps

    def report(self, call: Call, outcome: Outcome, decision: Json) -> None:
        block: Json = {
            "tool_use_id": call.id,
            "type": "tool_result",
            "content": outcome.content,
        }
        if outcome.is_error is not None:
            block["is_error"] = outcome.is_error
        meta = outcome.meta
        if meta is None:
            meta = {"permission_decision": decision}
        more = {"tool_result_meta": [{"id": call.id, **meta}]} if meta else {}
        self.user([block], tool_use_result=outcome.result, **more)

    # -- the end

    def finish(self, ending: Ending) -> None:
        """Emit the result."""
        cli = self.cli
        is_error = bool(ending.more.pop("is_error", ending.subtype != "success"))
        result = self._result(ending, is_error=is_error)
        if ending.subtype == "success":
            result["result"] = self.speech.last_text
            if not is_error and self.speech.ttft_ms is not None:
                result |= self._timing()
            result.setdefault("api_error_status", None)
        else:
            result["errors"] = ending.errors
        if self.structured is not None:
            result["structured_output"] = self.structured
        if self.origin_run:
            result["origin"] = {
                "kind": "task-notification",
                "producer": "session-task",
                "runId": self.origin_run,
            }
        if self.uuids:
            result["user_message_uuid"] = self.uuids[-1]
            result["user_message_uuids"] = self.uuids
        cli.result_count += 1
        cli.exit_code = int(is_error)
        if self.holds_result:
            cli.held.append(result)
            return
        held, cli.held = cli.held, []
        for event in (*held, result):
            cli.emit(event)

    def _timing(self) -> Json:
        ttft = self.speech.ttft_ms or 1
        return {
            "ttft_ms": ttft,
            "ttft_stream_ms": ttft,
            "time_to_request_ms": max(0, ttft - 1),
            "first_content_frame_ms": ttft,
        }

    def _result(self, ending: Ending, *, is_error: bool) -> Json:
        cli, speech = self.cli, self.speech
        aborted = ending.reason == "aborted_streaming" or ending.subtype == "error_max_budget_usd"
        usage = money.usage(speech.input_tokens, speech.output_tokens)
        result: Json = {
            "duration_api_ms": cli.ledger.api_ms,
            "stop_reason": ending.stop_reason,
            "session_id": cli.session.id,
            "total_cost_usd": cli.ledger.total_usd,
            "usage": money.usage(0, 0) if aborted else usage,
            "modelUsage": cli.ledger.report(),
            "permission_denials": self.denials,
            "terminal_reason": ending.reason,
            "fast_mode_state": "off",
            "fast_mode_disabled_reason": "sdk_opt_in_required",
            "subagent_stats": events.subagent_stats(cli.spawned),
            "safety_stops": 0,
            "is_error": is_error,
            "num_turns": 1 + self.user_events,
            "subtype": ending.subtype,
            **ending.more,
            "type": "result",
            "duration_ms": int((machine.now() - self.started) * 1000),
            "uuid": cli.ids.uuid(),
            "queued_turn_count": len(cli.queue),
            "result_index": cli.result_count,
        }
        since = cli.ledger.report_since_result()
        if cli.options.output_format == "stream-json" or cli.options.has("verbose"):
            result["model_usage_since_last_result"] = since
        return result
