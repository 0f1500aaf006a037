import { describe } from 'vitest';
import { commands, inPipe } from './every-command.js';

describe('commands with a mirror that runs without a debug port', () => {
  describe('in a pipe', () => {
    commands(inPipe, 'socket', () => Promise.resolve());
  });
});
