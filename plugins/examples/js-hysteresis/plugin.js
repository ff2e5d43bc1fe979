// A value from a register, and a state derived from it with hysteresis: `alarm` goes on above `high`, off below `low`, and
// stays as it is in between. Configuration: bus, unit, address (0 to 65535, an input register), scale, high, low.

import { document } from 'outstation:host/config@0.1.0';
import { open } from 'outstation:modbus/client@0.1.0';
import { get, set } from 'outstation:host/state@0.1.0';

const KEYS = ['bus', 'unit', 'address', 'scale', 'high', 'low'];
const TIMEOUT = 1, LINK = 2, DENIED = 3, MODBUS = 256;

let config, device, alarm = false;

function problems(config) {
  const found = [];
  const add = (path, message, hint) => found.push({ path, message, hint });
  for (const key of Object.keys(config)) {
    if (!KEYS.includes(key)) add(`/${key}`, `unknown key \`${key}\``, `one of: ${KEYS.join(', ')}`);
  }
  if (typeof config.bus !== 'string') add('/bus', 'the name of a bus belongs here', 'bus = "boiler"');
  for (const key of ['unit', 'address']) {
    if (!Number.isInteger(config[key])) add(`/${key}`, 'a whole number belongs here', `${key} = 1`);
  }
  for (const key of ['high', 'low']) {
    if (typeof config[key] !== 'number') add(`/${key}`, 'a number belongs here', `${key} = 80.0`);
  }
  if (config.low >= config.high) add('/low', 'it has to be below `high`', `low = ${config.high - 1}`);
  return found;
}

// The code of a reading that could not be taken.
function code(error) {
  switch (error?.tag) {
    case 'timeout': return TIMEOUT;
    case 'transport': return LINK;
    case 'denied': return DENIED;
    case 'exception': return MODBUS + error.val;
    default: return 0;
  }
}

const point = (id, title, kind, cls, unit) =>
  ({ id, title, kind, class: cls, unit, range: null, attributes: [] });
const good = (point, tag, val) =>
  ({ point, value: { tag, val }, quality: { severity: 'good', code: 0 }, at: null });
const bad = (point, code) =>
  ({ point, value: null, quality: { severity: 'bad', code }, at: null });

export const sensor = {
  check(document) {
    return problems(JSON.parse(document));
  },

  describe() {
    return {
      name: 'hysteresis', version: '0.1.0', vendor: '', reasons: [],
      points: [point('value', 'Value', 'real', 'gauge', ''), point('alarm', 'Above the limit', 'boolean', 'state', '')],
    };
  },

  init() {
    config = { scale: 1, ...JSON.parse(document()) };
    // After a restart it goes on as it was.
    alarm = get('alarm')?.[0] === 1;
  },

  run() {
    let word;
    try {
      device ??= open(config.bus, config.unit);
      word = device.read({ table: 'input-registers', address: config.address, count: 1 }).val[0];
    } catch (error) {
      // What a host function refuses is thrown: the value of its error, or an Error that carries it.
      const why = code(error?.payload ?? error);
      return { readings: [bad(0, why), bad(1, why)], next: null, pointsChanged: false };
    }
    const value = word * config.scale;
    const before = alarm;
    if (value > config.high) alarm = true;
    if (value < config.low) alarm = false;
    if (alarm !== before) set('alarm', new Uint8Array([alarm ? 1 : 0]));
    return { readings: [good(0, 'real', value), good(1, 'boolean', alarm)], next: null, pointsChanged: false };
  },

  stop() {},
};
