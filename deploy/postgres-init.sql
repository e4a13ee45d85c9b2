-- Dagster's own storage, beside the face-changer database that the image makes from POSTGRES_DB.
CREATE DATABASE dagster;
