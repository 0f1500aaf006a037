import { describe } from 'vitest';
import { lacks } from '../parts/debian.js';
import { commands, inPipe, inTerminal } from './every-command.js';

describe('commands with a mirror that runs', () => {
  describe('in a pipe', () => {
    commands(inPipe, 'debug port', () => Promise.resolve());
  });

  describe.skipIf(lacks('script'))('in a terminal', () => {
    commands(inTerminal, 'debug port', () => Promise.resolve());
  });
});
