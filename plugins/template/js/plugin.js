// my-sensor: a sensor that counts up, as a start. Replace what `run` does by what yours measures.
// Configuration: `full`, in mm, where it begins again; default 1000.

import { document } from 'outstation:host/config@0.1.0';

let full = 1000;
let polls = 0;

const good = (point, tag, val) => ({ point, value: { tag, val }, quality: { severity: 'good', code: 0 }, at: null });

export const sensor = {
  // Everything that is wrong with a configuration; `outstation check` shows it at its line.
  check(json) {
    const problems = [];
    for (const [key, value] of Object.entries(JSON.parse(json))) {
      if (key !== 'full') {
        problems.push({ path: `/${key}`, message: `unknown key \`${key}\``, hint: 'it takes `full`' });
      } else if (typeof value !== 'number' || value <= 0) {
        problems.push({ path: '/full', message: 'a number above 0 belongs here', hint: 'full = 1000.0' });
      }
    }
    return problems;
  },

  // The points; readings name them by their place in this list.
  describe() {
    return {
      name: 'my-sensor', version: '0.1.0', vendor: '', reasons: [],
      points: [
        { id: 'level', title: 'Level of the tank', kind: 'real', class: 'gauge', unit: 'mm', range: [0, full], attributes: [] },
        { id: 'polls', title: 'Polls since the start', kind: 'unsigned', class: 'counter', unit: '', range: null, attributes: [] },
      ],
    };
  },

  // Called once. What is wrong is thrown: { tag: 'unavailable', val: 'the device is away' }.
  init() {
    full = JSON.parse(document()).full ?? 1000;
  },

  // Takes the readings: at the start, then by schedule.
  run(trigger, now, deadline) {
    polls += 1;
    return { readings: [good(0, 'real', (polls * 12.5) % full), good(1, 'unsigned', polls)], next: null, pointsChanged: false };
  },

  // The end: the last chance to write state.
  stop() {},
};
