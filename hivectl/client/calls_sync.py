"""One method a row of METHODS, blocking. Written by hivectl.client.generate; do not edit."""

# ruff: noqa: A002, ARG002, RUF100, PLR0913

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from hivectl.client.unset import UNSET, Unset, given

if TYPE_CHECKING:
    from hivectl.protocol import results


class CallsSync:
    """Mixed into the client, which supplies `request`."""

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Send one request and return its result."""
        raise TypeError("mixed into a client")

    def ping(
        self,
    ) -> results.PingResult:
        """Answers at once."""
        sent: dict[str, Any] = {}
        answer = self.request("ping", sent)
        return cast("results.PingResult", answer)

    def whoami(
        self,
    ) -> results.WhoamiResult:
        """The caller as the daemon sees it."""
        sent: dict[str, Any] = {}
        answer = self.request("whoami", sent)
        return cast("results.WhoamiResult", answer)

    def schema_get(
        self,
    ) -> results.SchemaResult:
        """JSON Schemas of all methods, events and errors."""
        sent: dict[str, Any] = {}
        answer = self.request("schema.get", sent)
        return cast("results.SchemaResult", answer)

    def project_create(
        self,
        path: str,
        *,
        name: str | Unset | None = UNSET,
        mkdir: bool | Unset = UNSET,
        repo: str | Unset | None = UNSET,
        branch: str | Unset | None = UNSET,
        trust: bool | Unset = UNSET,
        defaults: dict[str, Any] | Unset = UNSET,
        env: dict[str, str] | Unset = UNSET,
    ) -> results.Project:
        """Register a directory as a project."""
        sent = given(
            path=path,
            name=name,
            mkdir=mkdir,
            repo=repo,
            branch=branch,
            trust=trust,
            defaults=defaults,
            env=env,
        )
        answer = self.request("project.create", sent)
        return cast("results.Project", answer)

    def project_list(
        self,
        *,
        state: Literal["idle", "executing", "waiting", "error"] | Unset | None = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.ProjectPage:
        """The projects."""
        sent = given(state=state, limit=limit, cursor=cursor)
        answer = self.request("project.list", sent)
        return cast("results.ProjectPage", answer)

    def project_get(
        self,
        project: str,
    ) -> results.Project:
        """One project, by id or name."""
        sent = given(project=project)
        answer = self.request("project.get", sent)
        return cast("results.Project", answer)

    def project_inspect(
        self,
        *,
        project: str | Unset | None = UNSET,
        path: str | Unset | None = UNSET,
    ) -> results.TrustReport:
        """What a directory brings that would run or steer Claude."""
        sent = given(project=project, path=path)
        answer = self.request("project.inspect", sent)
        return cast("results.TrustReport", answer)

    def project_update(
        self,
        project: str,
        *,
        name: str | Unset | None = UNSET,
        path: str | Unset | None = UNSET,
        defaults: dict[str, Any] | Unset | None = UNSET,
        env: dict[str, str | None] | Unset | None = UNSET,
        version: int | Unset | None = UNSET,
    ) -> results.Project:
        """Change name, path, defaults or environment."""
        sent = given(
            project=project, name=name, path=path, defaults=defaults, env=env, version=version
        )
        answer = self.request("project.update", sent)
        return cast("results.Project", answer)

    def project_trust(
        self,
        project: str,
        *,
        hash: str | Unset | None = UNSET,
    ) -> results.Project:
        """Let the project's own settings, hooks and servers take effect."""
        sent = given(project=project, hash=hash)
        answer = self.request("project.trust", sent)
        return cast("results.Project", answer)

    def project_untrust(
        self,
        project: str,
    ) -> results.Project:
        """Take that back."""
        sent = given(project=project)
        answer = self.request("project.untrust", sent)
        return cast("results.Project", answer)

    def project_delete(
        self,
        project: str,
        *,
        force: bool | Unset = UNSET,
        purge: bool | Unset = UNSET,
    ) -> results.Deleted:
        """Forget a project; its directory is never touched."""
        sent = given(project=project, force=force, purge=purge)
        answer = self.request("project.delete", sent)
        return cast("results.Deleted", answer)

    def project_join(
        self,
        project: str,
    ) -> results.Presence:
        """Be seen as present in a project, and follow it."""
        sent = given(project=project)
        answer = self.request("project.join", sent)
        return cast("results.Presence", answer)

    def project_leave(
        self,
        project: str,
    ) -> results.Presence:
        """No longer be present."""
        sent = given(project=project)
        answer = self.request("project.leave", sent)
        return cast("results.Presence", answer)

    def execute(
        self,
        project: str,
        prompt: str,
        *,
        session: str | Unset = UNSET,
        fork: bool | Unset = UNSET,
        options: dict[str, Any] | Unset = UNSET,
        if_busy: Literal["queue", "fail"] | Unset = UNSET,
        priority: Literal["high", "normal", "low"] | Unset | None = UNSET,
        after: list[str] | Unset = UNSET,
        after_any: list[str] | Unset = UNSET,
        not_before: str | Unset | None = UNSET,
        retries: int | Unset | None = UNSET,
        on_usage_limit: Literal["park", "resume", "fail"] | Unset | None = UNSET,
        worktree: bool | Unset = UNSET,
        pool: str | Unset = UNSET,
        idempotency_key: str | Unset | None = UNSET,
    ) -> results.Accepted:
        """Accept a prompt; answers as soon as it is durable, never waits for the end."""
        sent = given(
            project=project,
            prompt=prompt,
            session=session,
            fork=fork,
            options=options,
            if_busy=if_busy,
            priority=priority,
            after=after,
            after_any=after_any,
            not_before=not_before,
            retries=retries,
            on_usage_limit=on_usage_limit,
            worktree=worktree,
            pool=pool,
            idempotency_key=idempotency_key,
        )
        answer = self.request("execute", sent)
        return cast("results.Accepted", answer)

    def execution_list(
        self,
        *,
        project: str | Unset | None = UNSET,
        states: list[str] | Unset | None = UNSET,
        live: bool | Unset = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.ExecutionPage:
        """Executions, newest first; pending ones with their place."""
        sent = given(project=project, states=states, live=live, limit=limit, cursor=cursor)
        answer = self.request("execution.list", sent)
        return cast("results.ExecutionPage", answer)

    def execution_get(
        self,
        execution: str,
    ) -> results.Execution:
        """One execution, by its id or its work order's."""
        sent = given(execution=execution)
        answer = self.request("execution.get", sent)
        return cast("results.Execution", answer)

    def execution_wait(
        self,
        execution: str,
        *,
        timeout_s: float | Unset | None = UNSET,
        or_waiting: bool | Unset = UNSET,
    ) -> results.Execution:
        """Wait for the end; a work order's id follows its retries."""
        sent = given(execution=execution, timeout_s=timeout_s, or_waiting=or_waiting)
        answer = self.request("execution.wait", sent)
        return cast("results.Execution", answer)

    def execution_diff(
        self,
        execution: str,
        *,
        max_bytes: int | Unset | None = UNSET,
    ) -> results.Diff:
        """What an execution changed in its worktree."""
        sent = given(execution=execution, max_bytes=max_bytes)
        answer = self.request("execution.diff", sent)
        return cast("results.Diff", answer)

    def execution_accept(
        self,
        execution: str,
        *,
        mode: Literal["merge", "ff", "squash"] | Unset = UNSET,
        message: str | Unset | None = UNSET,
    ) -> results.TakenOver:
        """Take the changes of a worktree over into the project's branch, and remove it."""
        sent = given(execution=execution, mode=mode, message=message)
        answer = self.request("execution.accept", sent)
        return cast("results.TakenOver", answer)

    def execution_discard(
        self,
        execution: str,
        *,
        force: bool | Unset = UNSET,
    ) -> results.Worktree:
        """Remove a worktree with its branch."""
        sent = given(execution=execution, force=force)
        answer = self.request("execution.discard", sent)
        return cast("results.Worktree", answer)

    def worktree_list(
        self,
        *,
        project: str | Unset | None = UNSET,
        all: bool | Unset = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.WorktreePage:
        """Worktrees, oldest first; by default those that are there."""
        sent = given(project=project, all=all, limit=limit, cursor=cursor)
        answer = self.request("worktree.list", sent)
        return cast("results.WorktreePage", answer)

    def kill(
        self,
        *,
        execution: str | Unset | None = UNSET,
        project: str | Unset | None = UNSET,
        mode: Literal["interrupt", "terminate", "kill"] | Unset = UNSET,
        reason: str | Unset = UNSET,
    ) -> results.Killed:
        """Stop an execution or a project's; answers when everything is gone."""
        sent = given(execution=execution, project=project, mode=mode, reason=reason)
        answer = self.request("kill", sent)
        return cast("results.Killed", answer)

    def usage(
        self,
        *,
        by: Literal["project", "user", "model", "day", "execution"] | Unset = UNSET,
        since: str | Unset = UNSET,
        until: str | Unset | None = UNSET,
        project: str | Unset | None = UNSET,
        user: str | Unset | None = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.UsagePage:
        """Runs, tokens, minutes and money by project, user, model, day or execution."""
        sent = given(
            by=by, since=since, until=until, project=project, user=user, limit=limit, cursor=cursor
        )
        answer = self.request("usage", sent)
        return cast("results.UsagePage", answer)

    def message_get(
        self,
        stream: str,
        seq: int,
        *,
        offset: int | Unset = UNSET,
        limit: int | Unset = UNSET,
    ) -> results.MessagePart:
        """A part of a message too large for an event."""
        sent = given(stream=stream, seq=seq, offset=offset, limit=limit)
        answer = self.request("message.get", sent)
        return cast("results.MessagePart", answer)

    def session_list(
        self,
        *,
        project: str | Unset | None = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.SessionPage:
        """Claude's conversations, newest first."""
        sent = given(project=project, limit=limit, cursor=cursor)
        answer = self.request("session.list", sent)
        return cast("results.SessionPage", answer)

    def session_get(
        self,
        session: str,
    ) -> results.Session:
        """One conversation."""
        sent = given(session=session)
        answer = self.request("session.get", sent)
        return cast("results.Session", answer)

    def session_new(
        self,
        project: str,
    ) -> results.Project:
        """Let the next execution start a fresh conversation."""
        sent = given(project=project)
        answer = self.request("session.new", sent)
        return cast("results.Project", answer)

    def session_fork(
        self,
        session: str,
        *,
        idempotency_key: str | Unset | None = UNSET,
    ) -> results.Session:
        """Let the next execution go on in a copy of a conversation, leaving that one as it is."""
        sent = given(session=session, idempotency_key=idempotency_key)
        answer = self.request("session.fork", sent)
        return cast("results.Session", answer)

    def session_end(
        self,
        session: str,
    ) -> results.Session:
        """End a conversation that is idle; the next prompt resumes it, or begins a fresh one."""
        sent = given(session=session)
        answer = self.request("session.end", sent)
        return cast("results.Session", answer)

    def get_messages(
        self,
        *,
        project: str | Unset | None = UNSET,
        stream: str | Unset | None = UNSET,
        execution: str | Unset | None = UNSET,
        session: str | Unset | None = UNSET,
        before: int | Unset | None = UNSET,
        after: int | Unset | None = UNSET,
        since: str | Unset | None = UNSET,
        until: str | Unset | None = UNSET,
        types: list[str] | Unset | None = UNSET,
        direction: Literal["in", "out"] | Unset | None = UNSET,
        grep: str | Unset | None = UNSET,
        order: Literal["asc", "desc"] | Unset = UNSET,
        limit: int | Unset = UNSET,
    ) -> results.MessagePage:
        """A page of a project's log."""
        sent = given(
            project=project,
            stream=stream,
            execution=execution,
            session=session,
            before=before,
            after=after,
            since=since,
            until=until,
            types=types,
            direction=direction,
            grep=grep,
            order=order,
            limit=limit,
        )
        answer = self.request("get_messages", sent)
        return cast("results.MessagePage", answer)

    def approval_list(
        self,
        *,
        state: Literal["pending", "decided", "withdrawn", "all"] | Unset = UNSET,
        project: str | Unset | None = UNSET,
        execution: str | Unset | None = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.ApprovalPage:
        """Approvals, oldest first; by default those that wait."""
        sent = given(state=state, project=project, execution=execution, limit=limit, cursor=cursor)
        answer = self.request("approval.list", sent)
        return cast("results.ApprovalPage", answer)

    def approval_get(
        self,
        id: str,
    ) -> results.Approval:
        """One approval."""
        sent = given(id=id)
        answer = self.request("approval.get", sent)
        return cast("results.Approval", answer)

    def approval_decide(
        self,
        id: str,
        version: int,
        decision: Literal["allow", "deny"],
        *,
        input: dict[str, Any] | Unset | None = UNSET,
        answers: dict[str, str] | Unset | None = UNSET,
        message: str | Unset = UNSET,
        interrupt: bool | Unset = UNSET,
        remember: bool | Unset = UNSET,
    ) -> results.Approval:
        """Allow or deny what Claude asks; the first answer wins."""
        sent = given(
            id=id,
            version=version,
            decision=decision,
            input=input,
            answers=answers,
            message=message,
            interrupt=interrupt,
            remember=remember,
        )
        answer = self.request("approval.decide", sent)
        return cast("results.Approval", answer)

    def question_list(
        self,
        *,
        state: Literal["pending", "answered", "expired", "withdrawn", "all"] | Unset = UNSET,
        project: str | Unset | None = UNSET,
        execution: str | Unset | None = UNSET,
        claude: bool | Unset = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.QuestionPage:
        """Questions, oldest first, also Claude's own (`a_…`); by default those that wait."""
        sent = given(
            state=state,
            project=project,
            execution=execution,
            claude=claude,
            limit=limit,
            cursor=cursor,
        )
        answer = self.request("question.list", sent)
        return cast("results.QuestionPage", answer)

    def question_get(
        self,
        id: str,
    ) -> results.Question:
        """One question."""
        sent = given(id=id)
        answer = self.request("question.get", sent)
        return cast("results.Question", answer)

    def question_wait(
        self,
        id: str,
        *,
        timeout_s: float | Unset | None = UNSET,
    ) -> results.Question:
        """Wait until a question is answered, or no longer waits."""
        sent = given(id=id, timeout_s=timeout_s)
        answer = self.request("question.wait", sent)
        return cast("results.Question", answer)

    def question_answer(
        self,
        id: str,
        *,
        version: int | Unset | None = UNSET,
        text: str | Unset = UNSET,
        choices: list[int | str] | Unset | None = UNSET,
        answers: dict[str, str] | Unset | None = UNSET,
        decline: bool | Unset = UNSET,
    ) -> results.Question:
        """Answer a question; the first answer wins."""
        sent = given(
            id=id, version=version, text=text, choices=choices, answers=answers, decline=decline
        )
        answer = self.request("question.answer", sent)
        return cast("results.Question", answer)

    def question_ask(
        self,
        text: str,
        *,
        choices: list[str] | Unset = UNSET,
        multi: bool | Unset = UNSET,
        context: str | Unset = UNSET,
        execution: str | Unset | None = UNSET,
        project: str | Unset | None = UNSET,
        timeout_s: float | Unset | None = UNSET,
        on_timeout: Literal["wait", "default", "deny"] | Unset | None = UNSET,
        worker: str | Unset | None = UNSET,
    ) -> results.Question:
        """Ask a person, as a worker or from within an execution; answers at once with the question's id."""
        sent = given(
            text=text,
            choices=choices,
            multi=multi,
            context=context,
            execution=execution,
            project=project,
            timeout_s=timeout_s,
            on_timeout=on_timeout,
            worker=worker,
        )
        answer = self.request("question.ask", sent)
        return cast("results.Question", answer)

    def chat_list(
        self,
        *,
        project: str | Unset | None = UNSET,
        execution: str | Unset | None = UNSET,
        waiting: bool | Unset = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.ChatPage:
        """Threads, the one with the newest message first."""
        sent = given(
            project=project, execution=execution, waiting=waiting, limit=limit, cursor=cursor
        )
        answer = self.request("chat.list", sent)
        return cast("results.ChatPage", answer)

    def chat_messages(
        self,
        thread: str,
        *,
        before: str | Unset | None = UNSET,
        after: str | Unset | None = UNSET,
        order: Literal["asc", "desc"] | Unset = UNSET,
        limit: int | Unset = UNSET,
    ) -> results.ChatMessagePage:
        """A page of a thread."""
        sent = given(thread=thread, before=before, after=after, order=order, limit=limit)
        answer = self.request("chat.messages", sent)
        return cast("results.ChatMessagePage", answer)

    def chat_send(
        self,
        text: str,
        *,
        thread: str | Unset | None = UNSET,
        parent: str | Unset | None = UNSET,
        project: str | Unset | None = UNSET,
        title: str | Unset = UNSET,
    ) -> results.ChatSent:
        """Write into a thread, or begin one; a reply to a question that waits is its answer and needs the scope `approve`."""
        sent = given(thread=thread, text=text, parent=parent, project=project, title=title)
        answer = self.request("chat.send", sent)
        return cast("results.ChatSent", answer)

    def chat_read(
        self,
        thread: str,
        *,
        message: str | Unset | None = UNSET,
    ) -> results.Chat:
        """Note that you have read a thread."""
        sent = given(thread=thread, message=message)
        answer = self.request("chat.read", sent)
        return cast("results.Chat", answer)

    def policy_list(
        self,
    ) -> results.PolicyPage:
        """The rules that answer for you, in the order they are tried."""
        sent: dict[str, Any] = {}
        answer = self.request("policy.list", sent)
        return cast("results.PolicyPage", answer)

    def policy_add(
        self,
        action: Literal["allow", "deny", "ask"],
        tool: str,
        *,
        match: dict[str, str] | Unset = UNSET,
        project: str | Unset | None = UNSET,
        first: bool | Unset = UNSET,
        note: str | Unset = UNSET,
        timeout_s: float | Unset | None = UNSET,
        on_timeout: Literal["wait", "deny", "allow"] | Unset | None = UNSET,
    ) -> results.Policy:
        """Add a rule."""
        sent = given(
            action=action,
            tool=tool,
            match=match,
            project=project,
            first=first,
            note=note,
            timeout_s=timeout_s,
            on_timeout=on_timeout,
        )
        answer = self.request("policy.add", sent)
        return cast("results.Policy", answer)

    def policy_remove(
        self,
        id: str,
    ) -> results.Deleted:
        """Remove a rule."""
        sent = given(id=id)
        answer = self.request("policy.remove", sent)
        return cast("results.Deleted", answer)

    def policy_test(
        self,
        *,
        approval: str | Unset | None = UNSET,
        project: str | Unset | None = UNSET,
        tool: str | Unset | None = UNSET,
        input: dict[str, Any] | Unset | None = UNSET,
    ) -> results.PolicyVerdict:
        """Which rule would decide a call, and why."""
        sent = given(approval=approval, project=project, tool=tool, input=input)
        answer = self.request("policy.test", sent)
        return cast("results.PolicyVerdict", answer)

    def queue_list(
        self,
        *,
        project: str | Unset | None = UNSET,
        states: list[Literal["queued", "claimed", "completed", "failed", "cancelled", "dead"]]
        | Unset = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.OrderPage:
        """Work orders, by default those that wait, in the order of their turn."""
        sent = given(project=project, states=states, limit=limit, cursor=cursor)
        answer = self.request("queue.list", sent)
        return cast("results.OrderPage", answer)

    def queue_stats(
        self,
    ) -> results.QueueStats:
        """How long the queue is, what holds it up, and who works."""
        sent: dict[str, Any] = {}
        answer = self.request("queue.stats", sent)
        return cast("results.QueueStats", answer)

    def queue_describe(
        self,
        work_order: str,
    ) -> results.OrderDescription:
        """One work order, and in words why it does not run."""
        sent = given(work_order=work_order)
        answer = self.request("queue.describe", sent)
        return cast("results.OrderDescription", answer)

    def queue_pause(
        self,
        *,
        project: str | Unset | None = UNSET,
        reason: str | Unset = UNSET,
    ) -> results.QueueChanged:
        """Start nothing new, of one project or at all."""
        sent = given(project=project, reason=reason)
        answer = self.request("queue.pause", sent)
        return cast("results.QueueChanged", answer)

    def queue_resume(
        self,
        *,
        project: str | Unset | None = UNSET,
        now: bool | Unset = UNSET,
    ) -> results.QueueChanged:
        """Take a pause back, and take up what a usage limit stopped."""
        sent = given(project=project, now=now)
        answer = self.request("queue.resume", sent)
        return cast("results.QueueChanged", answer)

    def queue_move(
        self,
        work_order: str,
        *,
        to: Literal["first", "last"] | Unset | None = UNSET,
        before: str | Unset | None = UNSET,
        priority: Literal["high", "normal", "low"] | Unset | None = UNSET,
    ) -> results.Order:
        """Give a waiting work order another place."""
        sent = given(work_order=work_order, to=to, before=before, priority=priority)
        answer = self.request("queue.move", sent)
        return cast("results.Order", answer)

    def queue_cancel(
        self,
        work_order: str,
        *,
        reason: str | Unset = UNSET,
    ) -> results.Order:
        """Cancel a waiting work order."""
        sent = given(work_order=work_order, reason=reason)
        answer = self.request("queue.cancel", sent)
        return cast("results.Order", answer)

    def queue_retry(
        self,
        work_order: str,
    ) -> results.Order:
        """Queue again what was given up, or at once what waits for a retry."""
        sent = given(work_order=work_order)
        answer = self.request("queue.retry", sent)
        return cast("results.Order", answer)

    def queue_clear(
        self,
        *,
        project: str | Unset | None = UNSET,
        all: bool | Unset = UNSET,
    ) -> results.QueueChanged:
        """Cancel all that waits, of one project or at all."""
        sent = given(project=project, all=all)
        answer = self.request("queue.clear", sent)
        return cast("results.QueueChanged", answer)

    def queue_enqueue(
        self,
        project: str,
        prompt: str,
        *,
        session: str | Unset = UNSET,
        fork: bool | Unset = UNSET,
        options: dict[str, Any] | Unset = UNSET,
        if_busy: Literal["queue", "fail"] | Unset = UNSET,
        priority: Literal["high", "normal", "low"] | Unset | None = UNSET,
        after: list[str] | Unset = UNSET,
        after_any: list[str] | Unset = UNSET,
        not_before: str | Unset | None = UNSET,
        retries: int | Unset | None = UNSET,
        on_usage_limit: Literal["park", "resume", "fail"] | Unset | None = UNSET,
        worktree: bool | Unset = UNSET,
        pool: str | Unset = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        idempotent: bool | Unset = UNSET,
    ) -> results.Accepted:
        """Accept work for workers outside; like `execute`, in their pool."""
        sent = given(
            project=project,
            prompt=prompt,
            session=session,
            fork=fork,
            options=options,
            if_busy=if_busy,
            priority=priority,
            after=after,
            after_any=after_any,
            not_before=not_before,
            retries=retries,
            on_usage_limit=on_usage_limit,
            worktree=worktree,
            pool=pool,
            idempotency_key=idempotency_key,
            idempotent=idempotent,
        )
        answer = self.request("queue.enqueue", sent)
        return cast("results.Accepted", answer)

    def queue_claim(
        self,
        worker: str,
        *,
        wait_s: float | Unset = UNSET,
    ) -> results.Claimed:
        """Take the next work order of the worker's pools, waiting for one."""
        sent = given(worker=worker, wait_s=wait_s)
        answer = self.request("queue.claim", sent)
        return cast("results.Claimed", answer)

    def queue_heartbeat(
        self,
        worker: str,
        execution: str,
    ) -> results.Heard:
        """The worker is alive and carries that execution."""
        sent = given(worker=worker, execution=execution)
        answer = self.request("queue.heartbeat", sent)
        return cast("results.Heard", answer)

    def queue_output(
        self,
        worker: str,
        execution: str,
        first: int,
        messages: list[dict[str, Any]],
    ) -> results.OutputTaken:
        """Append what the worker says to the project's log, each message once."""
        sent = given(worker=worker, execution=execution, first=first, messages=messages)
        answer = self.request("queue.output", sent)
        return cast("results.OutputTaken", answer)

    def queue_complete(
        self,
        worker: str,
        execution: str,
        *,
        result: str | Unset = UNSET,
        structured: Any | Unset = UNSET,
        usage: dict[str, Any] | Unset = UNSET,
    ) -> results.Execution:
        """The worker has done it."""
        sent = given(
            worker=worker, execution=execution, result=result, structured=structured, usage=usage
        )
        answer = self.request("queue.complete", sent)
        return cast("results.Execution", answer)

    def queue_fail(
        self,
        worker: str,
        execution: str,
        message: str,
        *,
        retryable: bool | Unset = UNSET,
        usage: dict[str, Any] | Unset = UNSET,
    ) -> results.Execution:
        """The worker could not do it."""
        sent = given(
            worker=worker, execution=execution, message=message, retryable=retryable, usage=usage
        )
        answer = self.request("queue.fail", sent)
        return cast("results.Execution", answer)

    def worker_register(
        self,
        name: str,
        *,
        pools: list[str] | Unset = UNSET,
        lease_s: float | Unset | None = UNSET,
    ) -> results.Registered:
        """Be a worker; a name that comes again takes over from the earlier one."""
        sent = given(name=name, pools=pools, lease_s=lease_s)
        answer = self.request("worker.register", sent)
        return cast("results.Registered", answer)

    def worker_heartbeat(
        self,
        worker: str,
        *,
        fault: str | Unset | None = UNSET,
        leaves: bool | Unset = UNSET,
    ) -> results.Heard:
        """The worker is alive."""
        sent = given(worker=worker, fault=fault, leaves=leaves)
        answer = self.request("worker.heartbeat", sent)
        return cast("results.Heard", answer)

    def worker_deregister(
        self,
        worker: str,
    ) -> results.Deregistered:
        """Be no worker any more; what it carries is lost."""
        sent = given(worker=worker)
        answer = self.request("worker.deregister", sent)
        return cast("results.Deregistered", answer)

    def worker_list(
        self,
        *,
        kind: Literal["local", "external"] | Unset | None = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.WorkerPage:
        """Workers: the slots of this daemon, and programs outside."""
        sent = given(kind=kind, limit=limit, cursor=cursor)
        answer = self.request("worker.list", sent)
        return cast("results.WorkerPage", answer)

    def worker_get(
        self,
        worker: str,
    ) -> results.Worker:
        """One worker."""
        sent = given(worker=worker)
        answer = self.request("worker.get", sent)
        return cast("results.Worker", answer)

    def worker_scale(
        self,
        slots: int | None,
    ) -> results.WorkerPage:
        """Have more or fewer local workers; what runs is not touched."""
        sent = given(slots=slots)
        answer = self.request("worker.scale", sent)
        return cast("results.WorkerPage", answer)

    def worker_drain(
        self,
        *,
        worker: str | Unset | None = UNSET,
    ) -> results.WorkerPage:
        """Let a worker finish and take nothing new."""
        sent = given(worker=worker)
        answer = self.request("worker.drain", sent)
        return cast("results.WorkerPage", answer)

    def worker_resume(
        self,
        *,
        worker: str | Unset | None = UNSET,
    ) -> results.WorkerPage:
        """Let it take work again."""
        sent = given(worker=worker)
        answer = self.request("worker.resume", sent)
        return cast("results.WorkerPage", answer)

    def notify_test(
        self,
    ) -> results.NotifyTested:
        """Send a test to every notification target and webhook; answers how each went."""
        sent: dict[str, Any] = {}
        answer = self.request("notify.test", sent)
        return cast("results.NotifyTested", answer)

    def notify_list(
        self,
        *,
        kind: str | Unset | None = UNSET,
        state: Literal["pending", "held", "sent", "failed", "moot"] | Unset | None = UNSET,
        limit: int | Unset = UNSET,
        cursor: str | Unset | None = UNSET,
    ) -> results.NotificationPage:
        """What people and programs were told, newest first, and how it went."""
        sent = given(kind=kind, state=state, limit=limit, cursor=cursor)
        answer = self.request("notify.list", sent)
        return cast("results.NotificationPage", answer)

    def summary(
        self,
        *,
        since: str | Unset = UNSET,
        until: str | Unset | None = UNSET,
        project: str | Unset | None = UNSET,
    ) -> results.SummaryResult:
        """What happened between two times: done, failed, waiting, cost, files."""
        sent = given(since=since, until=until, project=project)
        answer = self.request("summary", sent)
        return cast("results.SummaryResult", answer)

    def health(
        self,
    ) -> results.Health:
        """Whether all is well, and what is used."""
        sent: dict[str, Any] = {}
        answer = self.request("health", sent)
        return cast("results.Health", answer)

    def stats(
        self,
    ) -> results.Stats:
        """Counters and gauges."""
        sent: dict[str, Any] = {}
        answer = self.request("stats", sent)
        return cast("results.Stats", answer)

    def config_get(
        self,
    ) -> results.ConfigResult:
        """Every setting with its value and origin."""
        sent: dict[str, Any] = {}
        answer = self.request("config.get", sent)
        return cast("results.ConfigResult", answer)

    def audit_verify(
        self,
        *,
        anchor: str | Unset | None = UNSET,
    ) -> results.AuditVerified:
        """Whether the audit is as it was written, from the first entry on."""
        sent = given(anchor=anchor)
        answer = self.request("audit.verify", sent)
        return cast("results.AuditVerified", answer)

    def log_prune(
        self,
        *,
        project: str | Unset | None = UNSET,
        older_than_s: float | Unset | None = UNSET,
        keep_bytes: int | Unset | None = UNSET,
        dry_run: bool | Unset = UNSET,
    ) -> results.Pruned:
        """Drop old segments of logs now, whole ones only."""
        sent = given(
            project=project, older_than_s=older_than_s, keep_bytes=keep_bytes, dry_run=dry_run
        )
        answer = self.request("log.prune", sent)
        return cast("results.Pruned", answer)

    def daemon_stop(
        self,
        *,
        runs: Literal["keep", "wait", "kill"] | Unset = UNSET,
        timeout_s: float | Unset | None = UNSET,
    ) -> results.Stopping:
        """Stop the daemon; runs are kept, waited for or killed."""
        sent = given(runs=runs, timeout_s=timeout_s)
        answer = self.request("daemon.stop", sent)
        return cast("results.Stopping", answer)
