// Logging in, where the node wants it.

import { element, fill } from './dom.js';
import { LoginNeeded, tell } from './node.js';

/** Asks for a name and a password; `done` is called when they are right. */
export function show(main, done) {
  const failure = element('p', { class: 'bad', role: 'alert' });
  const user = element('input', { name: 'user', autocomplete: 'username', required: true, id: 'user' });
  const password = element('input', {
    name: 'password', type: 'password', autocomplete: 'current-password', required: true, id: 'password',
  });
  const form = element('form', {
    class: 'login panel',
    onsubmit: async (event) => {
      event.preventDefault();
      failure.textContent = '';
      try {
        await tell('/api/v1/login', { user: user.value, password: password.value });
        done();
      } catch (error) {
        failure.textContent = error instanceof LoginNeeded
          ? 'The name or the password is not right.' : error.message;
        password.value = '';
        password.focus();
      }
    },
  },
  element('h2', {}, 'Log in'),
  element('label', {}, 'Name', user),
  element('label', {}, 'Password', password),
  failure,
  element('button', { class: 'primary', type: 'submit' }, 'Log in'));
  fill(main, form);
  user.focus();
  return () => {};
}
