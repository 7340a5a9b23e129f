// Loaded before claude-code-ui by `node --require`: it listens on loopback only and reaches nothing else, and the program
// its SDK starts is the stand-in of the benchmarks (BENCH_CLAUDE), where it would start its own copy of Claude with node.
const net = require('net');
const children = require('child_process');
const { syncBuiltinESMExports } = require('module');

const LOOPBACK = '127.0.0.1';
const { listen } = net.Server.prototype;
net.Server.prototype.listen = function (port, host, ...rest) {
  return typeof host === 'string' ? listen.call(this, port, LOOPBACK, ...rest) : listen.call(this, port, host, ...rest);
};

const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...given) {
  const wanted = Array.isArray(given[0]) ? given[0][0] : given[0];
  const host = wanted && wanted.host;
  if (host && host !== LOOPBACK && host !== 'localhost') throw new Error(`no way to ${host} from a benchmark`);
  return connect.apply(this, given);
};

const { spawn } = children;
children.spawn = (command, args, options) => {
  const at = (args || []).findIndex((one) => String(one).endsWith('claude-agent-sdk/cli.js'));
  return at < 0 ? spawn(command, args, options) : spawn(process.env.BENCH_CLAUDE, args.slice(at + 1), options);
};
syncBuiltinESMExports();
