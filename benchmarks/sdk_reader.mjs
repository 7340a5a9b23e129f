// The TypeScript Agent SDK as a reference: `node sdk_reader.mjs SDK CLAUDE PROMPT`. In its own process, without a log or
// a viewer: `query()`, and each message looked at. Prints one JSON object: messages of Claude's, the seconds from the
// making of the first one (`t=` in its text, see agent.c) to the arrival of the last, and whether a number was missing.
import { pathToFileURL } from 'url';

const [sdk, claude, prompt] = process.argv.slice(2);
const { query } = await import(pathToFileURL(`${sdk}/sdk.mjs`));

const found = { events: 0, took_s: 0, broken: 0 };
let begun = 0n;
for await (const message of query({ prompt, options: { pathToClaudeCodeExecutable: claude } })) {
  if (message.type !== 'assistant') continue;
  const [, n, made] = message.message.content[0].text.split(' ', 3);
  begun ||= BigInt(made.slice(2));
  found.events += 1;
  if (Number(n.slice(2)) !== found.events) found.broken = 1;
  found.took_s = Number(process.hrtime.bigint() - begun) / 1e9;
}
console.log(JSON.stringify(found));
process.exit(0);
