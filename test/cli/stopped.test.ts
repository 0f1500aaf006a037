import { describe } from 'vitest';
import { lacks } from '../parts/debian.js';
import { commands, inPipe, inTerminal } from './every-command.js';

describe('commands with a mirror that was stopped', () => {
  describe('in a pipe', () => {
    commands(inPipe, 'debug port', (mirror) => mirror.cistern.stop());
  });

  describe.skipIf(lacks('script'))('in a terminal', () => {
    commands(inTerminal, 'debug port', (mirror) => mirror.cistern.stop());
  });
});
