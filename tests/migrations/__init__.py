"""Tests of resources/migrations on stores that older versions made."""
