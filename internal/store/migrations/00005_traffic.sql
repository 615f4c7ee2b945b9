-- +goose Up

-- What a microVM has moved: written with each change of its state.
ALTER TABLE microvms ADD COLUMN traffic TEXT; -- JSON Traffic, NULL for none
