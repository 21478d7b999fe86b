// What becomes of one delivery.
export const mapper = {
  transform({ context, payload }) {
    const received = JSON.parse(payload); // whole numbers beyond 2^53 lose digits here
    if (received === null || typeof received !== "object" || Array.isArray(received)) {
      throw { tag: "invalid-payload", val: "the payload is not an object" };
    }
    if (received.test === true) throw { tag: "skip", val: "a test" };
    return [{ payload: JSON.stringify({ trigger: context.trigger, received }), key: null }];
  },
};
