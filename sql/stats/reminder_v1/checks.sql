-- fail: more became of reminders than were shown, or what all hospitals were shown is not their sum
SELECT
    reminder_month,
    sum(n_shown) AS n_shown
FROM stats.reminder
GROUP BY reminder_month
HAVING
    bool_or(n_accepted + n_overridden + n_ignored > n_shown OR n_opened > n_shown)
    OR sum(n_shown) FILTER (WHERE hospital_id = 'all') <> sum(n_shown) FILTER (WHERE hospital_id <> 'all');
